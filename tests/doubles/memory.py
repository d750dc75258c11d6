"""The executor whose workspaces are in memory, for tests of whatever needs an executor.

No config of a deployment names it, so `executors.all` does not: a test makes it by `running`, or
offers it as a plug-in.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from time import time_ns
from typing import ClassVar, Literal, Self

from gateway.config.model import ExecutorConfig
from gateway.domain.errors import (
    GatewayError,
    NotADirectory,
    NotAFile,
    PathNotFound,
    PathRefused,
    SessionNotFound,
    StreamBroken,
)
from gateway.domain.model import Entry, Kind
from gateway.domain.paths import WorkspacePath
from gateway.executors.base import Capabilities, Executor, Health, Links, Proof
from gateway.executors.engines.walking import DirectoryWalk
from gateway.executors.streams import EVERYTHING, FileStream, Selection, Walk, Wanted

_PIECE = 64 * 1024  # bytes
_MOST_LINKS = 40  # on one way, as in Linux


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    mtime_ns: int = field(default_factory=time_ns)


@dataclass(frozen=True, slots=True)
class _Link:
    target: bytes
    mtime_ns: int = field(default_factory=time_ns)


@dataclass(frozen=True, slots=True)
class _Directory:
    children: "dict[bytes, _Node]" = field(default_factory=dict)
    mtime_ns: int = field(default_factory=time_ns)


_Node = _File | _Link | _Directory


class Workspace:
    """A tree of files, directories and links; paths are relative, their parts any file names.

    Whatever is put somewhere makes the directories above it and replaces what was there.
    """

    def __init__(self) -> None:
        self._root = _Directory()

    def write(self, path: bytes, content: bytes) -> None:
        """Put a file at *path*."""
        self._put(path, _File(content))

    def link(self, path: bytes, target: bytes) -> None:
        """Put a symbolic link at *path*."""
        self._put(path, _Link(target))

    def make_directory(self, path: bytes) -> None:
        """Make sure of a directory at *path*."""
        self._directory(path.split(b"/"))

    def entry(self, path: WorkspacePath, node: _Node) -> Entry:
        """The entry that a listing has for *node*; a link is what it leads to, if that is here."""
        if isinstance(node, _File):
            return Entry(path, Kind.FILE, len(node.content), node.mtime_ns, 0o644)
        if isinstance(node, _Directory):
            return Entry(path, Kind.DIRECTORY, 0, node.mtime_ns, 0o755)
        try:
            return self.entry(path, self.find(path.parts))._replace(is_link=True)
        except GatewayError:
            return Entry(path, Kind.SYMLINK, 0, node.mtime_ns, 0o777, True)

    def children(self, path: WorkspacePath) -> Iterator[Entry]:
        """The direct children of the directory at *path*; raise its verdict if there is none."""
        directory = self.find(path.parts)
        if isinstance(directory, _File):
            raise NotADirectory("not a directory")
        for name, node in directory.children.items():
            child = path.child(name)
            yield self.entry(child, node)

    def find(self, parts: Sequence[bytes]) -> _File | _Directory:
        """What is at the end of *parts* when every link is followed; raise a verdict for nothing.

        A link is followed as Linux does it, but never out of the workspace.
        """
        way: list[_File | _Directory] = [self._root]
        ahead = [*reversed(parts)]
        links = 0
        while ahead:
            name, here = ahead.pop(), way[-1]
            if isinstance(here, _File):
                raise NotADirectory("not a directory")
            if name == b"..":
                way.pop()
                if not way:
                    raise PathRefused("invalid path: symbolic link leaves the workspace")
            elif name not in (b"", b"."):
                node = here.children.get(name)
                if node is None:
                    raise PathNotFound("file not found")
                if not isinstance(node, _Link):
                    way.append(node)
                    continue
                links += 1
                if links > _MOST_LINKS or node.target.startswith(b"/"):
                    raise PathRefused("invalid path: symbolic link leaves the workspace")
                ahead += reversed(node.target.split(b"/"))
        return way[-1]

    def _put(self, path: bytes, node: _Node) -> None:
        *above, name = path.split(b"/")
        self._directory(above).children[name] = node

    def _directory(self, parts: Sequence[bytes]) -> _Directory:
        here = self._root
        for name in parts:
            node = here.children.get(name)
            if not isinstance(node, _Directory):
                node = here.children[name] = _Directory()
            here = node
        return here


class MemoryConfig(ExecutorConfig):
    """Nothing of its own: workspaces are put into `Memory.workspaces`."""

    type: Literal["memory"]


class Memory(Executor):
    """Has the *workspaces* that are put into it, by their ids."""

    Config: ClassVar[type[ExecutorConfig]] = MemoryConfig
    capabilities = Capabilities(
        ranges=True, versions=True, raw_names=True, links=Links.RESOLVED, proof=Proof.LENGTH
    )

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.workspaces: dict[str, Workspace] = {}

    @classmethod
    @asynccontextmanager
    async def running(cls, name: str, config: MemoryConfig) -> AsyncIterator[Self]:
        """Start without any workspace."""
        yield cls(name)

    async def probe(self) -> Health:
        """Always ready; says how many workspaces there are."""
        return Health(ready=True, details={"workspaces": str(len(self.workspaces))})

    @asynccontextmanager
    async def open(
        self, workspace: str, path: WorkspacePath, wanted: Wanted = EVERYTHING
    ) -> AsyncIterator[FileStream]:
        """Open the file at *path* as it is now; a link is followed if it stays inside."""
        files = self._workspace(workspace)
        file = files.find(path.parts)
        if isinstance(file, _Directory):
            raise NotAFile("not a file")
        yield _MemoryStream(self.name, files.entry(path, file), file.content)

    @asynccontextmanager
    async def walk(
        self,
        workspace: str,
        path: WorkspacePath,
        *,
        depth: int,
        after: WorkspacePath | None = None,
        selection: Selection | None = None,
    ) -> AsyncIterator[Walk]:
        """Begin to list what lies below *path*; a link on the way there is followed, too."""
        files = self._workspace(workspace)

        async def children(directory: WorkspacePath) -> Sequence[Entry]:
            return [*files.children(directory)]

        yield DirectoryWalk(
            self.name,
            path,
            await children(path),
            children,
            depth=depth,
            after=after,
            selection=selection,
        )

    def _workspace(self, workspace: str) -> Workspace:
        if workspace not in self.workspaces:
            raise SessionNotFound("session not found")
        return self.workspaces[workspace]


class _MemoryStream(FileStream):
    """The content that a file had when it was opened."""

    def __init__(self, source: str, entry: Entry, content: bytes) -> None:
        self.source = source
        self.entry = entry._replace(version=blake2b(content, digest_size=16).hexdigest())
        self._content = content

    async def read(self, first: int, count: int) -> bytes:
        """Return exactly *count* bytes from position *first*."""
        if first + count > len(self._content):
            raise StreamBroken("the file is shorter than it was said to be")
        return self._content[first : first + count]

    async def chunks(self, first: int, count: int | None) -> AsyncIterator[bytes]:
        """Yield exactly *count* bytes from position *first*, 64 KiB at a time."""
        assert count is not None  # the size is known
        end = first + count
        for position in range(first, end, _PIECE):
            yield await self.read(position, min(_PIECE, end - position))
