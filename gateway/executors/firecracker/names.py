"""Names and paths as they cross the border to Shannon's executor, in both directions."""

import binascii

from gateway.domain.errors import ProtocolFault, Unsupported
from gateway.domain.paths import WorkspacePath

_LONGEST_NAME = 255  # bytes: Linux' NAME_MAX


def spelled(path: WorkspacePath) -> str:
    """The path as the executor takes it; raise `Unsupported` if it takes no such path.

    It refuses two dots anywhere, also in `a..b`, and JSON has no names that are not UTF-8.
    """
    if b".." in path.raw:
        raise Unsupported("the executor takes no path with two dots in a row")
    try:
        return path.raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Unsupported("the executor takes no name that is not UTF-8") from None


def encoded(path: WorkspacePath) -> str:
    """The path as the guest script takes it: any bytes, in base64."""
    return binascii.b2a_base64(path.raw, newline=False).decode("ascii")


def decoded(text: str) -> bytes:
    """The bytes that the guest script wrote as base64; raise `ProtocolFault` if it did not."""
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error as exc:
        raise ProtocolFault("the executor's answer has an unexpected form") from exc


def checked_name(name: bytes) -> bytes:
    """*name* if it can be one of a directory's entries; raise `ProtocolFault` if not."""
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name or len(name) > _LONGEST_NAME:
        raise ProtocolFault("the executor lists a name that cannot be one")
    return name
