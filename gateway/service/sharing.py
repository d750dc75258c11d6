"""Lets those who ask for the same at the same time wait for one answer."""

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from time import monotonic
from typing import Generic, TypeVar

T = TypeVar("T")

_AT_ONCE_S = 0.25  # what changed longer before somebody asked is in the answer


class Shared(Generic[T]):
    """What is entered once for all who ask for it at the same time, and left with the last."""

    def __init__(self) -> None:
        self._coming: dict[Hashable, _Entering[T]] = {}

    @asynccontextmanager
    async def entered(
        self, key: Hashable, opening: Callable[[], AbstractAsyncContextManager[T]]
    ) -> AsyncIterator[T]:
        """Enter *opening*, or wait for somebody who does for an equal *key*; raises what that does.

        It goes on while anybody waits. Where it is there already, or has been under way for more
        than a moment, the next one enters anew.
        """
        entering = self._coming.get(key)
        if entering is None or monotonic() - entering.began > _AT_ONCE_S:
            entering = self._coming[key] = _Entering(opening())
            entering.task.add_done_callback(lambda _: self._forget(key, entering))
        entering.users += 1
        try:
            yield await asyncio.shield(entering.task)
        finally:
            entering.users -= 1
            if not entering.users:
                self._forget(key, entering)
                await entering.leave()

    def _forget(self, key: Hashable, entering: "_Entering[T]") -> None:
        if self._coming.get(key) is entering:
            del self._coming[key]


class _Entering(Generic[T]):
    def __init__(self, opening: AbstractAsyncContextManager[T]) -> None:
        self._opening = opening
        self.users = 0
        self.began = monotonic()
        self.task = asyncio.create_task(self._enter())

    async def _enter(self) -> T:
        return await self._opening.__aenter__()

    async def leave(self) -> None:
        """Leave it, or give up entering it."""
        if not self.task.done():  # or a cancellation here would leave it entered
            self.task.cancel()
            await asyncio.wait((self.task,))
        if not self.task.cancelled() and self.task.exception() is None:
            await self._opening.__aexit__(None, None, None)
