"""A deadline that costs nothing where nothing is waited for."""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


async def within(seconds: float, coroutine: Coroutine[Any, Any, T]) -> T:
    """Await *coroutine*; raise TimeoutError if it takes longer than *seconds*.

    It runs until it has to wait for the first time before a timer is set up: what is answered from
    memory, as most small files are, never has to.
    """
    try:
        waits_for = coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    async with asyncio.timeout(seconds):
        return await _Rest(coroutine, waits_for)


class _Rest(Generic[T]):
    """Awaits a coroutine that waits already."""

    def __init__(self, coroutine: Coroutine[Any, Any, T], waits_for: object) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[object, Any, T]:
        coroutine, waits_for = self._coroutine, self._waits_for
        while True:
            try:
                try:
                    sent = yield waits_for
                except BaseException as exc:  # noqa: BLE001 - it is the coroutine's to handle
                    waits_for = coroutine.throw(exc)
                else:
                    waits_for = coroutine.send(sent)
            except StopIteration as done:
                result: T = done.value
                return result
