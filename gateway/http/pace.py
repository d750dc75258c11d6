"""How long a reader may keep the gateway waiting."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass

from aiohttp import web


@dataclass(frozen=True, slots=True)
class PaceLimits:
    """A reader is cut off when it takes nothing for *idle_timeout_s*, or when, after having been
    waited for that long in all, it has taken less than *min_rate* bytes a second of that time.
    """

    idle_timeout_s: float
    min_rate: int


PACE_LIMITS = web.AppKey("pace_limits", PaceLimits)


class Pace:
    """Watches one response's reader."""

    def __init__(self, limits: PaceLimits) -> None:
        self._limits = limits
        self._waited_s = 0.0
        self._taken = 0

    def took(self, count: int) -> None:
        """Count *count* bytes that the reader's socket has taken."""
        self._taken += count

    async def wait(self, ready: Awaitable[None]) -> None:
        """Wait until the reader takes more; raise `ConnectionAbortedError` if it is too slow."""
        loop = asyncio.get_running_loop()
        since = loop.time()
        try:
            async with asyncio.timeout(self._limits.idle_timeout_s):
                await ready
        except TimeoutError:
            raise ConnectionAbortedError("the reader takes nothing") from None
        self._waited_s += loop.time() - since
        if (
            self._waited_s > self._limits.idle_timeout_s
            and self._taken < self._waited_s * self._limits.min_rate
        ):
            raise ConnectionAbortedError("the reader is too slow")
