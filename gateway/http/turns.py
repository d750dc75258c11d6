"""Work for the processor alone, such as digests, done on the loop in pieces that starve nobody."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from aiohttp import web

T = TypeVar("T")


class Turns:
    """Lets one piece of such work be done in each turn of the loop, whoever asks for it.

    Two hundred requests that each do a little in every turn would make the others wait long.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def take(self, work: Callable[[], T]) -> T:
        """Call *work*, which should take less than a millisecond, when it is its turn."""
        async with self._lock:
            result = work()
            await asyncio.sleep(0)
        return result


TURNS = web.RequestKey("turns", Turns)
