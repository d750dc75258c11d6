"""A deadline that costs nothing where nothing is waited for."""

import asyncio
from collections.abc import Coroutine, Generator
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

T = TypeVar("T")

CUT_OFF: ContextVar[asyncio.Timeout | None] = ContextVar("cut_off", default=None)
"""The deadline of whoever makes the present call: cancelled by it is not left by a client."""


async def within(seconds: float, coroutine: Coroutine[Any, Any, T]) -> T:
    """Await *coroutine*; raise TimeoutError if it takes longer than *seconds*.

    What is answered from memory, as most small files are, sets up no timer.
    """
    begun = Begun(coroutine)
    if begun.is_done:
        return begun.result
    async with asyncio.timeout(seconds):
        return await begun


class Begun(Generic[T]):
    """A coroutine that has run to its end, or until it has to wait for the first time.

    It has to be awaited in the same task, once; what it raises at once is raised when it is made,
    and what it returns at once is its *result*.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine
        try:
            self._waits_for = coroutine.send(None)
            self.is_done = False
        except StopIteration as done:
            self.result: T = done.value
            self.is_done = True

    def __await__(self) -> Generator[object, Any, T]:
        if self.is_done:
            return self.result
        coroutine, waits_for = self._coroutine, self._waits_for
        while True:
            try:
                try:
                    sent = yield waits_for
                except BaseException as exc:  # noqa: BLE001  # it is the coroutine's to handle
                    waits_for = coroutine.throw(exc)
                else:
                    waits_for = coroutine.send(sent)
            except StopIteration as done:
                result: T = done.value
                return result
