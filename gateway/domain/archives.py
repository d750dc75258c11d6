"""What an archive is asked to be, and what goes into it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from gateway.domain.paths import WorkspacePath


class Format(Enum):
    """The form of an archive, as requests and file names call it."""

    ZIP = "zip"
    TAR = "tar"
    TAR_GZ = "tar.gz"
    TAR_ZST = "tar.zst"

    @property
    def media_type(self) -> str:
        """The `Content-Type` of such an archive."""
        return _MEDIA_TYPES[self]


_MEDIA_TYPES = {
    Format.ZIP: "application/zip",
    Format.TAR: "application/x-tar",
    Format.TAR_GZ: "application/gzip",
    Format.TAR_ZST: "application/zstd",
}


@dataclass(frozen=True, slots=True)
class Packing:
    """What to pack, and how.

    *paths* are directories of which none lies in another, in order (`apart`). *exclude* are
    gitignore patterns, relative to the workspace's root; with *gitignore* those of its own
    `.gitignore` files count, too. What is *stored*, a zip or a tar, is not compressed: then its
    length is known before it is made. With a *manifest* the last member tells what was left out.
    """

    format: Format
    paths: tuple[WorkspacePath, ...] = (WorkspacePath.ROOT,)
    exclude: tuple[str, ...] = ()
    gitignore: bool = False
    stored: bool = False
    manifest: bool = False


def apart(paths: Iterable[WorkspacePath]) -> tuple[WorkspacePath, ...]:
    """The paths in order, each once, without those that lie in another; none is the root."""
    kept: list[WorkspacePath] = []
    for path in sorted(paths):
        if not kept or path.parts[: len(kept[-1].parts)] != kept[-1].parts:
            kept.append(path)
    return tuple(kept) or (WorkspacePath.ROOT,)


@dataclass(frozen=True, slots=True)
class ArchiveBounds:
    """What one archive may hold: members, their bytes, of one file, and levels of directories."""

    entries: int
    bytes: int
    file: int
    depth: int


class Member(NamedTuple):
    """A regular file or a directory in an archive.

    *size* is 0 for a directory. *version*: while it, the path and the size are the same, the bytes
    are, as far as the executor can tell; None if it cannot.
    """

    parts: tuple[bytes, ...]
    is_directory: bool
    size: int
    mtime_ns: int | None
    mode: int
    version: int | str | None = None


class Skipped:
    """Entries that are left out of an archive: how many, and the *paths* of the first of them."""

    MOST_PATHS = 1000

    def __init__(self) -> None:
        self.count = 0
        self.paths: list[tuple[bytes, ...]] = []

    def add(self, parts: tuple[bytes, ...] | None) -> None:
        """Leave out one more; None: it has no path in the workspace."""
        self.count += 1
        if parts is not None and len(self.paths) < self.MOST_PATHS:
            self.paths.append(parts)


@dataclass(frozen=True, slots=True)
class Bodies:
    """Where another process finds the bytes of members by itself.

    *descriptor* is a workspace's directory, below which *resolver* (its name, and its sandbox
    prefix) finds a member by its path; or, without a resolver, one file in which a member's bytes
    begin at its offset in *offsets*. It stays the owner's.
    """

    descriptor: int
    resolver: tuple[str, str | None] | None = None
    offsets: Sequence[int] = ()  # as many as members; what is given for a directory is not used
