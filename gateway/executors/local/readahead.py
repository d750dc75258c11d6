"""Runs the generator behind a walk in a pool, one batch ahead of the reader."""

import asyncio
from collections.abc import AsyncIterator, Generator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Self

from gateway.domain.model import Entry
from gateway.executors.base import Walk
from gateway.executors.local.pool import Pool

_Batches = Generator[list[Entry], None, None]


class LocalWalk(Walk, AsyncIterator[Sequence[Entry]]):
    """Batches as they come from the pool, without the empty ones."""

    def __init__(self, source: str, pool: Pool, batches: _Batches) -> None:
        self.source = source
        self._pool = pool
        self._batches = batches
        self._first: list[Entry] | None = None
        self._coming = self._ask()

    @classmethod
    @asynccontextmanager
    async def begun(cls, source: str, pool: Pool, batches: _Batches) -> AsyncIterator[Self]:
        """Wait for the first batch; raise what the generator raises before it.

        Leaving closes the generator: at once, or as soon as the thread that is in it comes out.
        """
        walk = cls(source, pool, batches)
        try:
            walk._first = await walk._next()
            yield walk
        finally:
            walk._coming.cancel()
            walk._coming.add_done_callback(lambda _: batches.close())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[Entry]:
        batch, self._first = self._first, None
        while not batch:
            batch = await self._next()
            if batch is None:
                raise StopAsyncIteration
        return batch

    async def _next(self) -> list[Entry] | None:
        batch = await asyncio.wrap_future(self._coming)
        if batch is not None:
            self._coming = self._ask()
        return batch

    def _ask(self) -> "Future[list[Entry] | None]":
        return self._pool.submit(next, self._batches, None)
