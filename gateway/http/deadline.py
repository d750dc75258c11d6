"""A moment at which something is due, and which is cheap to put off."""

import asyncio
import math
from collections.abc import Callable


class Deadline:
    """Calls *due* once the time has passed that was last given.

    Its timer is not moved every time: what is put off with every request is rarely met.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, due: Callable[[], None]) -> None:
        self._loop = loop
        self._due = due
        self._at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def within(self, seconds: float) -> None:
        """It is due in so many seconds, whatever was said before."""
        self._at = self._loop.time() + seconds
        if self._timer is None or self._at < self._timer.when():
            self.cancel()
            self._timer = self._loop.call_at(self._at, self._look)

    def cancel(self) -> None:
        """It is not due any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        left = self._at - self._loop.time()
        if left > 0:
            self.within(left)
        else:
            self._due()
