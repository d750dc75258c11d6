"""An executor that does what a test has written down, call by call."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from gateway.domain.archives import Member, Skipped
from gateway.domain.model import Entry, Kind
from gateway.domain.paths import WorkspacePath
from gateway.executors.base import Archives, Capabilities, Executor, Health, Links, Proof
from gateway.executors.streams import (
    EVERYTHING,
    ArchiveStream,
    FileStream,
    Members,
    Packed,
    Selection,
    Walk,
    Wanted,
)

PATH = WorkspacePath.parse(b"a.txt")

Step = BaseException | float | Callable[[], Awaitable[None]] | None
"""Before a call is entered: raise, wait so many seconds, await something, or nothing."""


class Stream(FileStream):
    def __init__(self, source: str, pieces: Sequence[bytes | Step], size: int | None) -> None:
        self.source = source
        self.entry = Entry(PATH, Kind.FILE, size, 0, 0o644)
        self.pieces = pieces

    async def read(self, first: int, count: int) -> bytes:
        data = b""
        async for chunk in self.chunks(first, count):
            data += chunk
            if len(data) >= count:
                break
        return data[:count]

    async def chunks(self, first: int, count: int | None) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, bytes):
                yield piece
            else:
                await take(piece)


class Batches(Walk):
    def __init__(self, source: str, batches: Sequence[Sequence[Entry] | Step]) -> None:
        self.source = source
        self.batches = batches

    async def __aiter__(self) -> AsyncIterator[Sequence[Entry]]:
        for batch in self.batches:
            if isinstance(batch, Sequence):
                yield batch
            else:
                await take(batch)


class Bundle(Members):
    """One member, opened as the executor opens any file."""

    members = (Member(PATH.parts, False, 5, 0, 0o644),)

    def __init__(self, executor: "Scripted") -> None:
        self.skipped = Skipped()
        for number in range(3):
            self.skipped.add((b"%d" % number,))
        self.source = executor.name
        self.executor = executor

    def open(self, member: Member) -> AbstractAsyncContextManager[FileStream]:
        return self.executor.open("s1", PATH)


class Archive(Stream, ArchiveStream):
    """Knows what it is when it was prepared, which takes *step*."""

    def __init__(self, source: str, pieces: Sequence[bytes | Step], step: Step = None) -> None:
        super().__init__(source, pieces, None)
        self.step = step

    async def prepare(self, *, whole: bool) -> None:
        await take(self.step)
        size = sum(len(piece) for piece in self.pieces if isinstance(piece, bytes))
        self.entry = self.entry._replace(size=size, version="v1")
        self.entries, self.uncompressed, self.skipped = 1, 2, 3


class Scripted(Executor):
    """Takes one of *steps* at each call; when they are used up, every call succeeds."""

    def __init__(
        self,
        name: str,
        *steps: Step,
        pieces: Sequence[bytes | Step] = (b"hello",),
        size: int | None = 5,
        batches: Sequence[Sequence[Entry] | Step] = (),
        per_workspace: int | None = None,
        complete: bool = False,
        archives: Archives = Archives.WALKED,
        archive: ArchiveStream | None = None,
    ) -> None:
        super().__init__(name)
        self.capabilities = Capabilities(
            ranges=True,
            versions=False,
            raw_names=True,
            links=Links.HIDDEN,
            proof=Proof.LENGTH,
            per_workspace=per_workspace,
            archives=archives,
        )
        self.steps = list(steps)
        self.calls = 0
        self.open_now = 0
        self.most_open = 0
        self.stream = Stream(name, pieces, size)
        self.stream.complete = complete
        self.batches = Batches(name, batches)
        self.batches.complete = complete
        self.made = archive or Bundle(self)

    async def probe(self) -> Health:
        return Health(ready=True)

    @asynccontextmanager
    async def open(
        self, workspace: str, path: WorkspacePath, wanted: Wanted = EVERYTHING
    ) -> AsyncIterator[FileStream]:
        async with self._entered():
            yield self.stream

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
        async with self._entered():
            yield self.batches

    def archive(
        self, workspace: str, packed: Packed
    ) -> AbstractAsyncContextManager[Members | ArchiveStream]:
        if self.capabilities.archives is Archives.WALKED:
            return super().archive(workspace, packed)
        return self._made()

    @asynccontextmanager
    async def _made(self) -> AsyncIterator[Members | ArchiveStream]:
        async with self._entered():
            yield self.made

    @asynccontextmanager
    async def _entered(self) -> AsyncIterator[None]:
        self.calls += 1
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        try:
            await take(self.steps.pop(0) if self.steps else None)
            yield
        finally:
            self.open_now -= 1


async def take(step: Step) -> None:
    if isinstance(step, BaseException):
        raise step
    if isinstance(step, float):
        await asyncio.sleep(step)
    elif step is not None:
        await step()
