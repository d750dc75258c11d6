"""Paths inside a workspace: parsed once, at the edge, into a value that cannot hold a traversal."""

import re
from dataclasses import dataclass
from typing import ClassVar, Self

from gateway.domain.errors import PathRefused

LONGEST_PATH = 4095  # bytes: Linux' PATH_MAX less the NUL

# A name need not be UTF-8, but JSON text must be. A byte of 0x80-0xFF that is not part of valid
# UTF-8 is listed as the private-use character U+EF80-U+EFFF (the octet range that MirBSD's OPTU
# encodings registered), and such a character in a requested path stands for that byte again.
# A name that really holds one of those characters is listed byte by byte, so that every listed
# path names exactly one file.
_ESCAPES = 0xEF00
_ESCAPED = re.compile("[\uef80-\uefff]")
_SURROGATE = re.compile("[\udc80-\udcff]")  # how Python decodes a byte that is not UTF-8


@dataclass(frozen=True, slots=True, order=True)
class WorkspacePath:
    """A path relative to a workspace's root: bytes, no empty, `.` or `..` part, no NUL.

    Paths order as listings do: parents before children, names compared as bytes.
    """

    parts: tuple[bytes, ...] = ()

    ROOT: ClassVar["WorkspacePath"]

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Parse percent-decoded bytes; raise `PathRefused` for what may not be looked up."""
        if b".." in raw and b".." in raw.replace(b"\\", b"/").split(b"/"):
            raise PathRefused("invalid path: traversal not allowed")
        if raw.startswith(b"/"):
            raise PathRefused("invalid path: absolute paths not allowed")
        if b"\0" in raw:
            raise PathRefused("invalid path: NUL byte not allowed")
        if not raw.isascii():
            try:
                raw = text_to_name(raw.decode("utf-8"))
            except UnicodeDecodeError:
                raise PathRefused("invalid path: not valid UTF-8") from None
        if len(raw) > LONGEST_PATH:
            raise PathRefused(f"invalid path: longer than {LONGEST_PATH} bytes")
        parts = raw.split(b"/")
        if b"" in parts or b"." in parts:
            parts = [part for part in parts if part not in (b"", b".")]
        return cls(tuple(parts))

    def child(self, name: bytes) -> "WorkspacePath":
        """The path of the entry *name* (one file-system name) in this directory."""
        return WorkspacePath((*self.parts, name))

    @property
    def raw(self) -> bytes:
        """The relative path as the file system spells it; empty for the root."""
        return b"/".join(self.parts)

    @property
    def name(self) -> str:
        """The last part as text; empty for the root."""
        return name_to_text(self.parts[-1]) if self.parts else ""

    @property
    def relative(self) -> str:
        """The path as text without a leading slash; asking for it names this very path."""
        raw = b"/".join(self.parts)
        return raw.decode("ascii") if raw.isascii() else name_to_text(raw)

    @property
    def rooted(self) -> str:
        """The path as text with a leading slash: `/` for the root, `/out/a.csv` below it."""
        return "/" + self.relative


WorkspacePath.ROOT = WorkspacePath()


def name_to_text(name: bytes) -> str:
    """Any file name as valid Unicode text; `text_to_name` is its inverse."""
    if name.isascii():
        return name.decode("ascii")
    text = name.decode("utf-8", "surrogateescape")
    if not _ESCAPED.search(text) and not _SURROGATE.search(text):
        return text
    text = _ESCAPED.sub(lambda found: found[0].encode().decode("ascii", "surrogateescape"), text)
    return _SURROGATE.sub(lambda found: chr(_ESCAPES + ord(found[0]) - 0xDC00), text)


def text_to_name(text: str) -> bytes:
    """The file name that *text* stands for."""
    return _ESCAPED.sub(lambda found: chr(0xDC00 + ord(found[0]) - _ESCAPES), text).encode(
        "utf-8", "surrogateescape"
    )
