"""An archive that goes straight to its one reader, because the spool cannot take it."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from gateway.archive.bodies import Source
from gateway.archive.build import Sink, build
from gateway.archive.counting import counted
from gateway.archive.helpers import Helpers
from gateway.archive.plan import Plan
from gateway.domain.errors import StreamBroken

_PIECE = 256 * 1024  # bytes
_AHEAD = 4  # pieces


class Direct:
    """Is built anew for every reading, at the reader's pace, inside the `async with`.

    *size* is None as long as only a build could tell it; *going* is entered as long as this is. No
    build takes more than *longest_s*, however slow the reader.
    """

    def __init__(
        self,
        plan: Plan,
        source: Source,
        helpers: Helpers,
        going: AbstractContextManager[None],
        longest_s: float,
    ) -> None:
        self.size = plan.size
        self._plan = plan
        self._source = source
        self._helpers = helpers
        self._going = going
        self._longest_s = longest_s

    async def __aenter__(self) -> Self:
        self._going.__enter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._going.__exit__(kind, exc, trace)

    async def measure(self) -> int:
        """Find out the size, if need be by a build that nobody reads."""
        if self.size is None:
            counter = _Counter()
            await self._build(counter)
            self.size = counter.count
        return self.size

    async def chunks(self, first: int, count: int | None) -> AsyncGenerator[bytes, None]:
        """Yield *count* bytes from position *first*; None: to the end.

        Raises `StreamBroken` before the last bytes: if a member has changed, or the size, or if it
        takes too long.
        """
        pieces = _Pieces()
        building = asyncio.create_task(self._build(pieces))
        end = self.size if count is None else first + count
        position = 0
        try:
            while end is None or position < end:
                piece = await pieces.next(building)
                if piece is None:
                    await building
                    if end is not None:
                        raise StreamBroken("the archive is shorter than it was")
                    return
                part = piece[max(0, first - position) : None if end is None else end - position]
                position += len(piece)
                if end is not None and position >= end == self.size:
                    if position > end or await pieces.next(building) is not None:
                        raise StreamBroken("the archive is longer than it was")
                    await building
                if part:
                    yield part
        finally:
            building.cancel()
            await asyncio.gather(building, return_exceptions=True)

    async def _build(self, sink: Sink) -> None:
        try:
            with counted(self._plan):
                async with asyncio.timeout(self._longest_s):
                    await build(self._plan, self._source, self._helpers, sink)
        except TimeoutError as exc:
            raise StreamBroken("it takes too long") from exc


class _Counter:
    """A sink that only counts."""

    def __init__(self) -> None:
        self.count = 0

    async def append(self, data: bytes) -> None:
        self.count += len(data)

    async def append_from(self, descriptor: int, count: int) -> None:
        self.count += count


class _Pieces:
    """A sink whose pieces wait for their reader."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes] = asyncio.Queue(_AHEAD)

    async def next(self, building: "asyncio.Task[None]") -> bytes | None:
        """The next piece; None when there are no more, because *building* has ended."""
        if self._queue.empty() and not building.done():
            coming = asyncio.create_task(self._queue.get())
            try:
                await asyncio.wait((coming, building), return_when=asyncio.FIRST_COMPLETED)
                if coming.done():
                    return coming.result()
            finally:
                coming.cancel()
        return None if self._queue.empty() else self._queue.get_nowait()

    async def append(self, data: bytes) -> None:
        await self._queue.put(data)

    async def append_from(self, descriptor: int, count: int) -> None:
        for first in range(0, count, _PIECE):
            await self._queue.put(os.pread(descriptor, min(_PIECE, count - first), first))
