"""Executors that only tests have: the local one with a twist, found through the registry."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import ClassVar, Literal

from gateway.config.model import ExecutorConfig
from gateway.domain.paths import WorkspacePath
from gateway.executors import registry
from gateway.executors.local.local import Local, LocalConfig
from gateway.executors.streams import EVERYTHING, FileStream, Wanted


@contextmanager
def registered() -> Iterator[None]:
    """Let configs name these executors."""
    types = {"cut": f"{__name__}:Cut", "noted": f"{__name__}:Noted"}
    places = registry._places()  # kept: nobody installs a plug-in while the gateway runs
    places.update(types)
    try:
        yield
    finally:
        for name in types:
            del places[name]


class CutConfig(LocalConfig):
    """*keep* is how many bytes a file has left once it is open."""

    type: Literal["cut"]
    keep: int


class Cut(Local):
    """Whoever writes the workspace cuts each file short between its opening and its first byte."""

    Config: ClassVar[type[ExecutorConfig]] = CutConfig
    keep = 0

    @classmethod
    @asynccontextmanager
    async def running(cls, name: str, config: CutConfig) -> AsyncIterator["Cut"]:
        async with super().running(name, config) as executor:
            executor.keep = config.keep
            yield executor

    @asynccontextmanager
    async def open(
        self, workspace: str, path: WorkspacePath, wanted: Wanted = EVERYTHING
    ) -> AsyncIterator[FileStream]:
        async with super().open(workspace, path, wanted) as stream:
            os.truncate(f"/proc/self/fd/{stream.descriptor}", self.keep)
            yield stream


class NotedConfig(LocalConfig):
    """As the local one's."""

    type: Literal["noted"]


class Noted(Local):
    """Notes which stretches of its files were asked for by `read`."""

    Config: ClassVar[type[ExecutorConfig]] = NotedConfig
    reads: ClassVar[list[range]] = []

    @asynccontextmanager
    async def open(
        self, workspace: str, path: WorkspacePath, wanted: Wanted = EVERYTHING
    ) -> AsyncIterator[FileStream]:
        async with super().open(workspace, path, wanted) as stream:
            self.reads.clear()
            yield _NotedStream(stream, self.reads)


class _NotedStream(FileStream):
    def __init__(self, stream: FileStream, reads: list[range]) -> None:
        self.source, self.entry, self.descriptor = stream.source, stream.entry, stream.descriptor
        self._stream = stream
        self._reads = reads

    async def read(self, first: int, count: int) -> bytes:
        data = await self._stream.read(first, count)
        self._reads.append(range(first, first + count))
        return data

    def chunks(self, first: int, count: int | None) -> AsyncIterator[bytes]:
        return self._stream.chunks(first, count)
