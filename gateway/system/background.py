"""Work beside the requests that has to go on: a failure of it is told, and it begins anew."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic

import structlog

log = structlog.get_logger()

_SHORTEST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_A_WHILE_S = 60.0


class Background:
    """Keeps work going, and knows what of it has failed within the last minute or two."""

    def __init__(self) -> None:
        self._failures: dict[str, float] = {}

    @property
    def failing(self) -> list[str]:
        """The names of the work that has failed of late, whether or not it goes on since."""
        since = monotonic() - _LONGEST_PAUSE_S - _A_WHILE_S
        return sorted(name for name, at in self._failures.items() if at > since)

    async def keep(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do *work*, until it is done; whenever it fails, log that, pause, and do it again.

        The pause grows with each failure that follows another one soon.
        """
        pause_s = _SHORTEST_PAUSE_S
        while True:
            began = monotonic()
            try:
                return await work()
            except Exception:
                if monotonic() - began >= _A_WHILE_S:
                    pause_s = _SHORTEST_PAUSE_S
                log.exception("background_work_failed", work=name, again_in_s=pause_s)
            self._failures[name] = monotonic()
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    @asynccontextmanager
    async def beside(self, name: str, work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        """Keep *work* going meanwhile; leaving cancels it."""
        task = asyncio.create_task(self.keep(name, work))
        try:
            yield
        finally:
            task.cancel()
            # Not a TaskGroup: whoever leaves may be another task than the one that entered.
            await asyncio.wait([task])
