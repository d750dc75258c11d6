"""Cursors say where a listing went on from: the last path given, as opaque text."""

import base64
import binascii

from gateway.domain.errors import BadParameter, PathRefused
from gateway.domain.paths import WorkspacePath


def encode(last: WorkspacePath) -> str:
    """The cursor behind *last*."""
    return base64.urlsafe_b64encode(last.relative.encode()).decode("ascii").rstrip("=")


def decode(cursor: str, listed: WorkspacePath) -> WorkspacePath:
    """The path behind which the listing of *listed* goes on; raise `BadParameter` for a cursor
    that no such listing gave.
    """
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        last = WorkspacePath.parse(base64.b64decode(padded, b"-_", validate=True))
    except (UnicodeEncodeError, binascii.Error, PathRefused):
        raise BadParameter("cursor: not a cursor of this listing") from None
    depth = len(listed.parts)
    if last.parts[:depth] != listed.parts or len(last.parts) == depth:
        raise BadParameter("cursor: not a cursor of this listing")
    return last
