"""Makes entries, content and verdicts of a backend's answers, and believes none of them unseen."""

import base64
import binascii
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from gateway.domain.errors import (
    AuthRejected,
    GatewayError,
    NotADirectory,
    NotAFile,
    NotReadable,
    PathNotFound,
    ProtocolFault,
    TooLarge,
    Unavailable,
    Unsupported,
    WorkspaceGone,
)
from gateway.domain.model import Entry, Kind
from gateway.domain.paths import LONGEST_PATH, WorkspacePath
from gateway.executors.http_profile.moments import moment_ns
from gateway.executors.http_profile.pointer import MISSING, found
from gateway.executors.http_profile.profile import Content, Facts, Listing, Means

MOST_ENTRIES: Final = 100_000
_LARGEST: Final = 2**63 - 1
_REPLACED: Final = "\ufffd"  # what many a backend lists in place of bytes that are not UTF-8
_FORM = partial(ProtocolFault, "the executor's answer has an unexpected form")

VERDICTS: Final[dict[Means, Callable[[], GatewayError]]] = {
    Means.PATH_NOT_FOUND: partial(PathNotFound, "file not found"),
    Means.NOT_A_FILE: partial(NotAFile, "not a file"),
    Means.NOT_A_DIRECTORY: partial(NotADirectory, "not a directory"),
    Means.NOT_READABLE: partial(NotReadable, "file not readable"),
    Means.TOO_LARGE: partial(TooLarge, "the file is too large for its executor"),
    Means.WORKSPACE_GONE: partial(WorkspaceGone, "the executor does not have the workspace"),
    Means.UNAVAILABLE: partial(Unavailable, "the executor failed"),
    Means.AUTH_REJECTED: partial(AuthRejected, "the executor refuses the gateway's credential"),
    Means.UNSUPPORTED: partial(Unsupported, "the executor cannot do this"),
}


def children(data: object, listing: Listing, directory: WorkspacePath) -> Sequence[Entry]:
    """The entries that *data* lists in *directory*; raise `ProtocolFault` if one cannot be."""
    listed = found(data, listing.entries)
    if not isinstance(listed, list):
        raise _FORM()
    if len(listed) > MOST_ENTRIES:
        raise ProtocolFault("the executor lists too many entries")
    seen: dict[WorkspacePath, Entry] = {}
    for one in listed:
        path = directory.child(_name(found(one, listing.fields.name)))
        if len(path.raw) > LONGEST_PATH:
            raise ProtocolFault("the executor lists an impossible name")
        entry = entry_of(one, listing.fields, path)
        if _REPLACED.encode() in path.parts[-1]:
            entry = entry._replace(problem="its name cannot be told")
        elif path in seen:
            raise ProtocolFault("the executor lists one name twice")
        seen[path] = entry
    return list(seen.values())


def entry_of(data: object, facts: Facts, path: WorkspacePath) -> Entry:
    """The entry at *path* that *data* describes; raise `ProtocolFault` if it does not."""
    if not isinstance(data, dict) or found(data, facts.directory.at) is MISSING:
        raise _FORM()
    is_directory = facts.directory.holds(data)
    size = None if facts.size is None else _size(found(data, facts.size))
    modified = facts.modified
    return Entry(
        path,
        Kind.DIRECTORY if is_directory else Kind.FILE,
        0 if is_directory else size,
        None if modified is None else moment_ns(found(data, modified.at), modified.format),
        mode=0,
    )


def content_of(data: object, content: Content) -> bytes:
    """The bytes of a file; raise `ProtocolFault`, or `Unsupported` if they are not exact."""
    text = found(data, content.at)
    if not isinstance(text, str):
        raise _FORM()
    if content.encoding == "text":
        if _REPLACED in text:
            raise Unsupported("the executor gives files as text, and this one is none")
        return text.encode("utf-8")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise _FORM() from exc


def _name(value: object) -> bytes:
    if not isinstance(value, str):
        raise _FORM()
    if value in ("", ".", "..") or "/" in value or "\0" in value:
        raise ProtocolFault("the executor lists an impossible name")
    return value.encode("utf-8")


def _size(value: object) -> int | None:
    """A size as a number or as its digits; nothing and null say that it is unknown."""
    if value is MISSING or value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
        raise ProtocolFault("the executor tells an impossible size")
    return value
