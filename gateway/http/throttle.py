"""How often and how many at once: failed logins by address, requests by key and organisation."""

import math
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from time import monotonic

from gateway.domain.errors import TooManyRequests

_MOST_BUCKETS = 10_000


class Throttle:
    """Token buckets of one limit: *per_minute* at once, refilled evenly; 0 is no limit.

    Each worker process counts for itself. Only the most recent 10,000 names are remembered.
    """

    def __init__(self, limit: str, per_minute: int, clock: Callable[[], float] = monotonic) -> None:
        self._limit = limit
        self._capacity = float(per_minute)
        self._per_second = per_minute / 60
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def check(self, name: str) -> None:
        """Raise `TooManyRequests` if *name* has used up its rate."""
        if name in self._buckets and self._tokens(name) < 1:
            self._refuse(name)

    def take(self, name: str) -> None:
        """Count one for *name*; raise `TooManyRequests` if that is one too many."""
        if not self._capacity:
            return
        tokens = self._tokens(name)
        if tokens < 1:
            self._refuse(name)
        self._buckets[name] = (tokens - 1, self._clock())
        self._buckets.move_to_end(name)
        if len(self._buckets) > _MOST_BUCKETS:
            self._buckets.popitem(last=False)

    def _tokens(self, name: str) -> float:
        tokens, at = self._buckets.get(name, (self._capacity, 0.0))
        return min(self._capacity, tokens + (self._clock() - at) * self._per_second)

    def _refuse(self, name: str) -> None:
        wait = math.ceil((1 - self._tokens(name)) / self._per_second)
        raise TooManyRequests(self._limit, f"too many requests; retry in {wait} s", wait)


class Crowding:
    """How many requests of one name are under way: at most *most*; 0 is no limit.

    Each worker process counts for itself.
    """

    def __init__(self, limit: str, most: int) -> None:
        self._limit = limit
        self._most = most
        self._under_way: dict[str, int] = {}

    def enter(self, name: str) -> None:
        """Count one more, which must `leave`; raise `TooManyRequests` if that is one too many."""
        under_way = self._under_way.get(name, 0)
        if self._most and under_way >= self._most:
            raise TooManyRequests(self._limit, "too many requests at once; retry in 1 s", 1)
        self._under_way[name] = under_way + 1

    def leave(self, name: str) -> None:
        """Count one less."""
        under_way = self._under_way.pop(name) - 1
        if under_way:
            self._under_way[name] = under_way


@lru_cache(_MOST_BUCKETS)
def address_bucket(address: str) -> str:
    """What an address is throttled as: itself, or its /64, which is one IPv6 customer."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    return str(parsed.ipv4_mapped or IPv6Address(int(parsed) >> 64 << 64))
