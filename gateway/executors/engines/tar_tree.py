"""Makes a workspace's members of what tars say lies in it."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from gateway.domain.archives import Member, Skipped
from gateway.domain.errors import Unsupported
from gateway.domain.paths import LONGEST_PATH, WorkspacePath
from gateway.domain.sizes import size_text
from gateway.executors.collecting import too_large
from gateway.executors.engines.tar_headers import (
    BODILESS,
    DIRECTORY,
    FILES,
    HARD_LINK,
    SYMLINK,
    UNREAD,
    VOLUME_LABEL,
    Header,
    fault,
)
from gateway.executors.engines.tar_links import Found, Links, Parts
from gateway.executors.streams import (
    Packed,
)

_HEADERS: Final = 4096  # bytes of headers that a member may have on average
_PADDING: Final = 1024 * 1024
_IMPLIED_MODE: Final = 0o755


class Place(NamedTuple):
    """What a tar is of: the directory *base*, whose members' names begin with *prefix* there."""

    base: WorkspacePath = WorkspacePath.ROOT
    prefix: Parts = ()

    def parts(self, name: bytes) -> Parts | None:
        """The path of a member, None if it is too long; raise `ProtocolFault` if it is outside.

        No file system has such names: whoever wrote them is no honest backend.
        """
        found = self.inside(name)
        if found is None:
            raise fault("a member outside of the directory")
        return None if len(b"/".join(found)) > LONGEST_PATH else found

    def inside(self, name: bytes) -> Parts | None:
        """The path that the member *name* has, None if that is outside."""
        names = tuple(part for part in name.split(b"/") if part not in (b"", b"."))
        if name.startswith(b"/") or b"\0" in name or b".." in names:
            return None
        own = len(self.prefix)
        return (*self.base.parts, *names[own:]) if names[:own] == self.prefix else None


class Tree:
    """What has been found so far, within the bounds of *packed*.

    *root* is as in `Links`.
    """

    def __init__(self, packed: Packed, root: Parts | None = None) -> None:
        self._bounds = packed.bounds
        self._selection = packed.selection
        self._place = Place()
        self._found: dict[Parts, Found] = {}
        self._links = Links(self._found, root)
        self._above: Parts = ()  # the directories above the path that was judged last
        self._is_above_excluded = False
        self._bytes = 0
        self._besides = self._bounds.bytes + self._bounds.entries * _HEADERS + _PADDING
        self.skipped = Skipped()

    def begin(self, place: Place) -> None:
        """Turn to the tar of another directory, which is apart from all before."""
        self._place = place
        if place.base.parts:
            self._put(place.base.parts, Found(True, 0, None, _IMPLIED_MODE))

    def admit(self, header: Header) -> Parts | None:
        """Take in what *header* says; the path of a file whose body is wanted, else None.

        Raises `ProtocolFault` for what cannot be, `TooLarge`, and `Unsupported`.
        """
        kind = header.kind
        if kind in UNREAD:
            raise Unsupported("the executor's tar is of a form that is not read")
        if kind == VOLUME_LABEL:
            return None
        is_directory, is_file = _sort(header)
        parts = self._place.parts(header.path)
        if parts is None:
            self.skipped.add(None)
            return None
        if parts == self._place.base.parts:
            if not is_directory:
                raise fault("a file in place of the directory")
            return None  # of it nothing else is told, as a walk tells nothing
        if not self._wants(parts, is_directory):
            self.forget(parts)
            return None
        if is_file:
            self._check(parts, header.size)
            return parts
        if is_directory:
            self._put(parts, Found(True, 0, header.mtime_ns, header.mode))
        elif kind == SYMLINK and len(header.target) <= LONGEST_PATH:
            self._put(parts, Found(False, 0, header.mtime_ns, 0, text=header.target))
        else:
            self._skip_unless_linked(parts, header)
        return None

    def keep(self, parts: Parts, header: Header, offset: int, digest: str) -> None:
        """Take in a file whose body has been kept at *offset*."""
        self._put(parts, Found(False, header.size, header.mtime_ns, header.mode, offset, digest))

    def pass_by(self, count: int) -> None:
        """Count bytes that nobody wants; raise `Unsupported` if there are too many."""
        self._besides -= count
        if self._besides < 0:
            raise Unsupported("the executor's tar has too much besides what is asked for")

    def forget(self, parts: Parts) -> None:
        """Take out what is at a path, if anything is."""
        found = self._found.pop(parts, None)
        if found is not None:
            self._bytes -= found.size

    def members(self) -> tuple[Sequence[Member], Sequence[int]]:
        """All members in order, and where their bodies are."""
        members: list[Member] = []
        offsets: list[int] = []
        self._bytes = 0  # of links as of files
        file: Parts | None = None
        for parts, found in sorted(self._found.items()):
            if file is not None and parts[: len(file)] == file:
                raise fault("a file that is a directory")
            file = None if found.is_directory else parts
            if not found.is_member:
                continue
            if found.text is not None:
                target = self._links.file(parts[:-1], found.text)
                if target is None:
                    self.skipped.add(parts)
                    continue
                found = target
            self._check(parts, found.size)
            self._bytes += found.size
            mode, version = found.mode, found.digest
            members.append(
                Member(parts, found.is_directory, found.size, found.mtime_ns, mode, version)
            )
            offsets.append(found.offset)
        return members, offsets

    def _wants(self, parts: Parts, is_directory: bool) -> bool:
        selection = self._selection
        if selection is None:
            return True
        if parts[:-1] != self._above:
            self._above = parts[:-1]
            above = (WorkspacePath(parts[:count]) for count in range(1, len(parts)))
            self._is_above_excluded = any(selection.excludes(path, True) for path in above)
        path = WorkspacePath(parts)
        return (
            not self._is_above_excluded
            and not selection.excludes(path, is_directory)
            and selection.lists(path, is_directory)
        )

    def _skip_unless_linked(self, parts: Parts, header: Header) -> None:
        """Take in another name of what has been found already, or count what cannot be packed."""
        target = self._place.inside(header.target) if header.kind == HARD_LINK else None
        found = self._found.get(target) if target else None
        if found is None or found.is_directory:
            self.forget(parts)
            self.skipped.add(parts)
            return
        self._check(parts, found.size)
        self._put(parts, found)

    def _put(self, parts: Parts, found: Found) -> None:
        """Take in what lies at a path, and the directories above it of which nothing is known."""
        self.forget(parts)  # the last one counts, as when a tar is extracted
        self._found[parts] = found
        self._bytes += found.size
        floor = len(self._place.base.parts) + self._bounds.depth
        if len(parts) > floor or (found.is_directory and len(parts) == floor):
            raise too_large(f"archive exceeds maximum depth ({self._bounds.depth} levels)", parts)
        for count in range(len(parts) - 1, len(self._place.base.parts), -1):
            if parts[:count] in self._found:
                break
            self._found[parts[:count]] = Found(
                True, 0, None, _IMPLIED_MODE, is_member=self._wants(parts[:count], True)
            )
        if len(self._found) > self._bounds.entries:
            limit = f"archive exceeds maximum number of entries ({self._bounds.entries})"
            raise too_large(limit, parts)

    def _check(self, parts: Parts, size: int) -> None:
        """Raise `TooLarge` if a file of that *size* is, or makes the whole, too large."""
        bounds = self._bounds
        if size > bounds.file:
            raise too_large(f"file exceeds maximum size limit ({size_text(bounds.file)})", parts)
        if self._bytes + size > bounds.bytes:
            raise too_large(f"archive exceeds maximum size ({size_text(bounds.bytes)})", parts)


def _sort(header: Header) -> tuple[bool, bool]:
    """Whether it is a directory, and whether a file; raise `ProtocolFault` if that is unclear."""
    kind, has_slash = header.kind, header.path.endswith(b"/")
    is_directory = kind == DIRECTORY or (kind == b"\0" and has_slash)
    is_file = kind in FILES and not is_directory
    if is_file and has_slash:
        raise fault("a file that is named as a directory")
    if header.size and (is_directory or kind in BODILESS):
        raise fault("a body of what has none")
    return is_directory, is_file
