"""What every request counts, kept in memory and added to its metrics ten times a second.

A metric that processes share costs a lock, a look at the process id and a write into a mapped file
for every change, and a request changes a dozen of them.
"""

import asyncio
from bisect import bisect_left
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
        self._counts: dict[tuple[str | int, ...], int] = {}
        _kept.append(self)

    def add(self, labels: tuple[str | int, ...], count: int = 1) -> None:
        """Count *count* more."""
        self._counts[labels] = self._counts.get(labels, 0) + count

    def settle(self) -> None:
        """Add the counts to the metric."""
        counts, self._counts = self._counts, {}
        for labels, count in counts.items():
            self._counter.labels(self._first, *labels).inc(count)


class Observations:
    """A histogram."""

    def __init__(self, histogram: Histogram) -> None:
        # prometheus_client has no public way to add more than one observation at a time.
        self._bounds = histogram._upper_bounds
        self._buckets = histogram._buckets
        self._total = histogram._sum
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
        _kept.append(self)

    def add(self, amount: float) -> None:
        """Observe *amount*, which is not negative."""
        self._counts[bisect_left(self._bounds, amount)] += 1
        self._sum += amount

    def settle(self) -> None:
        """Add the observations to the metric."""
        for position, count in enumerate(self._counts):
            if count:
                self._buckets[position].inc(count)
                self._counts[position] = 0
        if self._sum:
            self._total.inc(self._sum)
            self._sum = 0.0


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
