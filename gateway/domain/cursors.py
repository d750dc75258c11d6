"""Cursors say where a listing went on from: the last path given, as text that is opaque to clients.

Gateways make them for each other's listings too, so their form may not change.
"""

import base64
import binascii

from gateway.domain.errors import BadParameter
from gateway.domain.paths import WorkspacePath

_NEVER_LISTED = frozenset({b"", b".", b".."})


def encode(last: WorkspacePath) -> str:
    """The cursor behind *last*."""
    return base64.urlsafe_b64encode(last.raw).decode("ascii").rstrip("=")


def decode(cursor: str, listed: WorkspacePath) -> WorkspacePath:
    """The path behind which the listing of *listed* goes on; raise `BadParameter` for a cursor
    that no such listing gave.
    """
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        raw = base64.b64decode(padded, b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise _not_ours() from None
    # Not `parse`: a listing reaches names that are not text, and further down than a path may tell.
    parts = tuple(raw.split(b"/"))
    if b"\0" in raw or not _NEVER_LISTED.isdisjoint(parts):
        raise _not_ours()
    last = WorkspacePath(parts)
    depth = len(listed.parts)
    if last.parts[:depth] != listed.parts or len(last.parts) == depth:
        raise _not_ours()
    return last


def _not_ours() -> BadParameter:
    return BadParameter("cursor: not a cursor of this listing")
