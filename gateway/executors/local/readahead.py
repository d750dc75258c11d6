"""Runs the generator behind a walk in a pool, one batch ahead of the reader."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Generator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Self

from gateway.domain.model import Entry, Rows
from gateway.executors.local.tree import FIRST_BATCH
from gateway.executors.streams import Walk
from gateway.system.pool import Pool

_Batches = Generator[Rows, None, None]
_Taken = list[Rows | None]
"""Batches as they came; None is the end."""


class ListedWalk(Walk, AsyncIterator[Sequence[Entry]]):
    """A walk that has all its entries."""

    complete = True

    def __init__(self, source: str, entries: Sequence[Entry]) -> None:
        self.source = source
        self._entries = entries

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[Entry]:
        entries, self._entries = self._entries, ()
        if not entries:
            raise StopAsyncIteration
        return entries


class LocalWalk(Walk, AsyncIterator[Sequence[Entry]]):
    """Batches as they come from the pool, without the empty ones."""

    def __init__(self, source: str, pool: Pool, batches: _Batches) -> None:
        self.source = source
        self._pool = pool
        self._batches = batches
        self._ready: deque[Rows | None] = deque()
        self._coming: Future[_Taken] | None = None

    @classmethod
    @asynccontextmanager
    async def begun(cls, source: str, pool: Pool, batches: _Batches) -> AsyncIterator[Self]:
        """Wait for the first batch; raise what the generator raises before it.

        Leaving closes the generator: at once, or as soon as the thread that is in it comes out.
        """
        walk = cls(source, pool, batches)
        try:
            walk._coming = walk._ask()
            walk._keep(await asyncio.wrap_future(walk._coming))
            yield walk
        finally:
            if walk._coming is None:
                batches.close()
            else:
                walk._coming.cancel()
                walk._coming.add_done_callback(lambda _: batches.close())

    @property
    def everything(self) -> Sequence[Entry] | None:
        """All there is, if it came with the first batch; None if not, or once iterated."""
        if len(self._ready) == 2 and self._ready[1] is None:
            return self._ready[0]
        return None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[Entry]:
        while True:
            while self._ready:
                batch = self._ready.popleft()
                if batch is None:
                    raise StopAsyncIteration
                if batch:
                    return batch
            assert self._coming is not None
            self._keep(await asyncio.wrap_future(self._coming))

    def _keep(self, taken: _Taken) -> None:
        self._ready.extend(taken)
        self._coming = self._ask() if taken[-1] is not None else None

    def _ask(self) -> "Future[_Taken]":
        return self._pool.submit(_take, self._batches)


def _take(batches: _Batches) -> _Taken:
    """The next batch; with a short one, what comes next: most likely the end, for no extra trip."""
    batch = next(batches, None)
    if batch is None or len(batch) >= FIRST_BATCH:
        return [batch]
    return [batch, next(batches, None)]
