"""What every request counts, kept in memory and added to its metrics ten times a second.

A metric that processes share costs a lock, a look at the process id and a write into a mapped file
for every change, and a request changes a dozen of them.
"""

import asyncio
from bisect import bisect_left
from collections import Counter as Counted
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from prometheus_client import Counter, Gauge, Histogram

_INTERVAL_S = 0.1


class _Unsettled(Protocol):
    def settle(self) -> None:
        """Add to the metric what has been counted since the last time."""


_kept: list[_Unsettled] = []


def settle() -> None:
    """Bring the metrics up to date."""
    for one in _kept:
        one.settle()


@asynccontextmanager
async def settled() -> AsyncIterator[None]:
    """Have the metrics never be older than a tenth of a second, and complete at the end."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def tick() -> None:
        nonlocal timer
        settle()
        timer = loop.call_later(_INTERVAL_S, tick)

    tick()
    try:
        yield
    finally:
        timer.cancel()
        settle()


class Tallies:
    """A counter whose first label is *first*, by the values of the others."""

    def __init__(self, counter: Counter, first: str) -> None:
        self._counter = counter
        self._first = first
        self._seen: list[tuple[str | int, ...]] = []
        self.add = self._seen.append
        """Count one with these labels."""
        _kept.append(self)

    def settle(self) -> None:
        """Add the counts to the metric."""
        for labels, count in Counted(self._seen).items():
            self._counter.labels(self._first, *labels).inc(count)
        self._seen.clear()


class Total:
    """A counter of amounts."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._amounts: list[int] = []
        self.add = self._amounts.append
        """Count so much more."""
        _kept.append(self)

    def settle(self) -> None:
        """Add the amounts to the metric."""
        if self._amounts:
            self._counter.inc(sum(self._amounts))
            self._amounts.clear()


class Observations:
    """A histogram."""

    def __init__(self, histogram: Histogram) -> None:
        # prometheus_client has no public way to add more than one observation at a time.
        self._bounds = histogram._upper_bounds
        self._buckets = histogram._buckets
        self._total = histogram._sum
        self._amounts: list[float] = []
        self.add = self._amounts.append
        """Observe an amount, which is not negative."""
        _kept.append(self)

    def settle(self) -> None:
        """Add the observations to the metric."""
        if not self._amounts:
            return
        buckets = Counted([bisect_left(self._bounds, amount) for amount in self._amounts])
        for position, count in buckets.items():
            self._buckets[position].inc(count)
        self._total.inc(sum(self._amounts))
        self._amounts.clear()


class Level:
    """A gauge that goes up and down."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._level = self._told = 0
        _kept.append(self)

    def change(self, by: int) -> None:
        """Let it be that much more."""
        self._level += by

    def settle(self) -> None:
        """Set the metric."""
        if self._level != self._told:
            self._gauge.set(self._level)
            self._told = self._level
