"""What a workspace's own `.gitignore` files leave of it."""

import re
from collections.abc import Set as AbstractSet

from gateway.domain.archives import ArchiveBounds, Packing
from gateway.domain.errors import (
    NotADirectory,
    NotAFile,
    NotReadable,
    PathNotFound,
    PathRefused,
    StreamBroken,
    TooLarge,
    Unavailable,
)
from gateway.domain.model import Kind
from gateway.domain.paths import WorkspacePath
from gateway.executors.base import Executor
from gateway.executors.streams import Selection, Wanted
from gateway.service.patterns import Extent, Pattern, Patterns, Reading
from gateway.service.selection import Cover, Parts, Selector, compiled, parsed

NAME = b".gitignore"
MOST_FILES = 256
LARGEST_FILE = 65_536  # bytes
# What speaks of one name are the files above it: within these, 4 ms for a name of 255 bytes and
# 60 ms for a path of 4,095 are the worst found.
MOST_ON_A_WAY = Extent(patterns=1000, bytes=16_384, wildcards=512)
MOST = Extent(patterns=4000, bytes=65_536, wildcards=4096)

_BOM = b"\xef\xbb\xbf"
_LINE = re.compile(r"(?m)^[^#\n\0][^\n\0]*")  # to git, too, a NUL is the end of it


async def own_ignores(
    executor: Executor, workspace: str, packing: Packing, bounds: ArchiveBounds
) -> Selection:
    """Find the `.gitignore` files that count for *packing*; return what they and it leave.

    As in git, a file that is a link is none, as far as the executor can tell, and a line that makes
    no sense matches nothing. `.git` is excluded. The patterns of `packing.exclude` win over all of
    that; an excluded directory is closed to them, too, unless they take it back itself.

    Raises `BadParameter` for them, `TooLarge` for more than can be heeded, what `Executor.walk`
    raises for a path, and `Outage`.
    """
    git = Pattern.parse(".git")
    asked = [*filter(None, [git]), *parsed("exclude", packing.exclude)]
    search = _Search(executor, workspace, compiled("exclude", asked), bounds)
    try:
        for path in packing.paths:
            await search.through(path)
    except StreamBroken as exc:
        raise Unavailable("the workspace cannot be read on") from exc
    return Selector(None, search.cover())


class _Search:
    """Looks for the files, parents first, so that what they exclude is not looked through.

    It never has two things open at once: a workspace may bear no more than one call.
    """

    def __init__(
        self, executor: Executor, workspace: str, asked: Patterns, bounds: ArchiveBounds
    ) -> None:
        self._executor = executor
        self._workspace = workspace
        self._asked = asked
        self._bounds = bounds
        self._own: dict[Parts, Patterns] = {}
        self._extents: dict[Parts, Extent] = {}
        self._known: set[Parts] = set()  # directories whose file needs no more looking for

    def cover(self) -> Cover:
        """What is excluded, as far as it is known."""
        return Cover(self._asked, self._own)

    async def through(self, path: WorkspacePath) -> None:
        """Read the files in *path*, in what is above it, and below it."""
        for depth in range(len(path.parts) + 1):
            directory = WorkspacePath(path.parts[:depth])
            if self._is_closed(directory):
                return
            if directory.parts not in self._known:
                for found in await self._find(directory, depth=1):
                    await self._read(found)
                self._known.add(directory.parts)
        after: WorkspacePath | None = None
        while directories := await self._find(path, depth=self._bounds.depth, after=after):
            for directory in directories:
                await self._read(directory)
            after = directories[-1].child(NAME)

    async def _find(
        self, path: WorkspacePath, *, depth: int, after: WorkspacePath | None = None
    ) -> list[WorkspacePath]:
        """The next directories that have a file; none if there are no more.

        A few of them while few are known, and more later: what they exclude is walked through for
        nothing, but each walk has to find its way to where the last one was left.
        """
        enough = 1 + len(self._own) // 4
        found: list[WorkspacePath] = []
        looking = _Looking(self.cover(), self._known, self._bounds.entries)
        async with self._executor.walk(
            self._workspace, path, depth=depth, after=after, selection=looking
        ) as walk:
            async for batch in walk:
                for entry in batch:
                    if entry.path.parts[-1] != NAME:
                        raise TooLarge(
                            f"gitignore: more than {self._bounds.entries} entries to look through, "
                            f"{entry.path.rooted!r} among them; exclude some"
                        )
                    if entry.kind is Kind.FILE and not entry.is_link:
                        found.append(WorkspacePath(entry.path.parts[:-1]))
                if len(found) >= enough:
                    break
        return found

    async def _read(self, directory: WorkspacePath) -> None:
        """Heed the file in *directory*, unless what is heeded already excludes that."""
        if self._is_closed(directory):
            return
        path = directory.child(NAME)
        if len(self._own) == MOST_FILES:
            raise TooLarge(f"gitignore: {path.rooted!r} is one file more than {MOST_FILES}")
        lines = _lines(await self._content(path))
        extent = Extent.of(lines)
        above = (self._extents.get(directory.parts[:n]) for n in range(len(directory.parts)))
        excess = extent.plus(*filter(None, above)).excess(MOST_ON_A_WAY)
        excess = excess or extent.plus(*self._extents.values()).excess(MOST)
        if excess:
            raise TooLarge(f"gitignore: up to {path.rooted!r}, there are {excess}")
        self._own[directory.parts] = _patterns(lines, extent)
        self._extents[directory.parts] = extent

    async def _content(self, path: WorkspacePath) -> bytes:
        try:
            async with self._executor.open(
                self._workspace, path, Wanted(count=LARGEST_FILE + 1)
            ) as stream:
                size = stream.entry.size
                count = LARGEST_FILE + 1 if size is None else min(size, LARGEST_FILE + 1)
                content = await stream.read(0, count)
        except (PathNotFound, NotAFile, NotADirectory, NotReadable, PathRefused):
            return b""  # it went, or git could not read it either
        if len(content) > LARGEST_FILE:
            raise TooLarge(f"gitignore: {path.rooted!r} is larger than {LARGEST_FILE} bytes")
        return content

    def _is_closed(self, directory: WorkspacePath) -> bool:
        return bool(directory.parts) and self.cover()(directory, True)


class _Looking(Selection):
    """Selects the files; and what comes behind so many entries, to tell that there are more."""

    def __init__(self, cover: Cover, known: AbstractSet[Parts], most: int) -> None:
        self._cover = cover
        self._known = known
        self._left = most

    def excludes(self, path: WorkspacePath, is_directory: bool) -> bool:
        """Whether it is excluded; but a `.gitignore` that is counts all the same."""
        return (is_directory or path.parts[-1] != NAME) and self._cover(path, is_directory)

    def lists(self, path: WorkspacePath, is_directory: bool) -> bool:
        """Whether it is a file to be read, or one entry too many."""
        self._left -= 1
        is_file = path.parts[-1] == NAME and not is_directory
        return self._left < 0 or (is_file and path.parts[:-1] not in self._known)


def _lines(content: bytes) -> list[str]:
    """What may be patterns, a character for each byte."""
    text = content.removeprefix(_BOM).replace(b"\r\n", b"\n").removesuffix(b"\r")
    return _LINE.findall(text.decode("latin-1"))


def _patterns(lines: list[str], extent: Extent) -> Patterns:
    patterns = []
    for line in lines:
        try:
            patterns.append(Pattern.parse(line))
        except ValueError:
            continue  # git matches nothing by it
    # RE2 needs up to 100 for a byte, and has room for what it learns of names: 55 MiB at the most.
    memory = (1 << 17) + 192 * (extent.bytes + 16 * extent.patterns)
    return Patterns(filter(None, patterns), Reading.BYTES, memory)
