"""How long a reader may keep the gateway waiting."""

import asyncio
import fcntl
import struct
import termios
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway.executors.within import Begun


@dataclass(frozen=True, slots=True)
class PaceLimits:
    """A reader is cut off when it takes nothing for *idle_timeout_s*, or when, after having been
    waited for that long in all, it has taken less than *min_rate* bytes a second of that time.
    """

    idle_timeout_s: float
    min_rate: int


_INT = struct.Struct("i")
PACE_LIMITS = web.RequestKey("pace_limits", PaceLimits)


def untaken(transport: asyncio.Transport) -> int:
    """How many of the bytes written to *transport* the other side has not acknowledged.

    A socket becomes writable only when a third of its buffer, megabytes, is free again: from that
    alone a slow reader looks like one that has stopped.
    """
    sock = transport.get_extra_info("socket")
    if sock is None:
        return 0
    try:
        queued = _INT.unpack(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(_INT.size)))[0]
    except (OSError, ValueError):  # closed meanwhile
        return 0
    return transport.get_write_buffer_size() + int(queued)


class Pace:
    """Watches one response's reader, who is at the other end of *transport*."""

    def __init__(self, limits: PaceLimits, transport: asyncio.Transport) -> None:
        self._limits = limits
        self._transport = transport
        self._waited_s = 0.0
        self._sent = 0

    def sent(self, count: int) -> None:
        """Count *count* bytes that are on their way to the reader."""
        self._sent += count

    async def wait(self, ready: Coroutine[Any, Any, None]) -> None:
        """Wait until there is room for more; raise `ConnectionAbortedError` if it is too slow."""
        waiting = Begun(ready)
        if waiting.is_done:
            return
        watch = _Watch(self, self._limits.idle_timeout_s, self._waited_s)
        try:
            async with watch.deadline:
                await waiting
        except TimeoutError:
            raise ConnectionAbortedError("the reader is too slow") from None
        finally:
            self._waited_s = watch.end()
        if self.is_too_slow(self._waited_s):
            raise ConnectionAbortedError("the reader is too slow")

    def taken(self) -> int:
        """How many bytes the reader has taken, give or take a head; also while it is waited for."""
        return self._sent - untaken(self._transport)

    def is_too_slow(self, waited_s: float) -> bool:
        """Whether a reader that was waited for so long in all has taken too little."""
        limits = self._limits
        return waited_s > limits.idle_timeout_s and self.taken() < waited_s * limits.min_rate


class _Watch:
    """Ends one wait when nothing has been taken between two looks, *interval_s* apart."""

    def __init__(self, pace: Pace, interval_s: float, waited_before_s: float) -> None:
        self.deadline = asyncio.timeout(None)
        self._pace = pace
        self._interval_s = interval_s
        self._waited_before_s = waited_before_s
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._taken: int | None = None
        # The first look comes early: it is what the second is compared with.
        self._next = self._loop.call_later(interval_s / 4, self._look)

    def end(self) -> float:
        """Look no more; return how long the reader has been waited for in all."""
        self._next.cancel()
        return self._waited_before_s + self._loop.time() - self._since

    def _look(self) -> None:
        taken = self._pace.taken()
        waited_s = self._waited_before_s + self._loop.time() - self._since
        if taken == self._taken or self._pace.is_too_slow(waited_s):
            self.deadline.reschedule(self._loop.time())
            return
        self._taken = taken
        self._next = self._loop.call_later(self._interval_s, self._look)
