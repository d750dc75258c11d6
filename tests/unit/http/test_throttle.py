"""Token buckets on a clock that the tests turn."""

import pytest

from gateway.domain.errors import TooManyRequests
from gateway.http.throttle import Crowding, Throttle, address_bucket


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def used_up(limiter: Throttle, name: str = "a") -> int:
    """Take until it is refused; return how often it was not."""
    taken = 0
    while True:
        try:
            limiter.take(name)
        except TooManyRequests:
            return taken
        taken += 1


def test_a_bucket_holds_a_minute_s_worth(clock: Clock) -> None:
    limiter = Throttle("limit", 30, clock)

    assert used_up(limiter) == 30
    assert used_up(limiter, "b") == 30


@pytest.mark.parametrize(
    ("waited_s", "refilled"), [(0, 0), (1.9, 0), (2.0, 1), (5.0, 2), (59.0, 29), (3600.0, 30)]
)
def test_it_refills_evenly(clock: Clock, waited_s: float, refilled: int) -> None:
    """30 a minute are one in two seconds, and never more than 30 at once."""
    limiter = Throttle("limit", 30, clock)
    used_up(limiter)

    clock.now_s += waited_s

    assert used_up(limiter) == refilled


@pytest.mark.parametrize(("waited_s", "wait_s"), [(0, 10), (0.5, 10), (1.5, 9), (9.5, 1)])
def test_the_refusal_says_how_long(clock: Clock, waited_s: float, wait_s: int) -> None:
    """A client that comes back then gets through."""
    limiter = Throttle("requests_per_minute", 6, clock)
    used_up(limiter)
    clock.now_s += waited_s

    with pytest.raises(TooManyRequests) as refused:
        limiter.take("a")

    assert refused.value.limit == "requests_per_minute"
    assert refused.value.retry_after_s == wait_s
    clock.now_s += wait_s
    limiter.take("a")


def test_a_check_takes_nothing(clock: Clock) -> None:
    limiter = Throttle("limit", 2, clock)
    for _ in range(10):
        limiter.check("a")

    assert used_up(limiter) == 2
    with pytest.raises(TooManyRequests):
        limiter.check("a")
    limiter.check("b")
    clock.now_s += 30
    limiter.check("a")


def test_a_refused_attempt_costs_nothing(clock: Clock) -> None:
    """Or a client that keeps trying would never get in again."""
    limiter = Throttle("limit", 60, clock)
    used_up(limiter)
    for _ in range(10):
        clock.now_s += 0.1
        try:
            limiter.take("a")
        except TooManyRequests:
            continue
        return
    pytest.fail("it never got through")


def test_zero_is_no_limit(clock: Clock) -> None:
    limiter = Throttle("limit", 0, clock)

    for _ in range(1000):
        limiter.take("a")
        limiter.check("a")


def test_only_the_most_recent_names_are_remembered(clock: Clock) -> None:
    """Memory stays bounded whatever the number of addresses; who keeps trying is kept."""
    limiter = Throttle("limit", 2, clock)
    used_up(limiter, "first")
    used_up(limiter, "second")
    for number in range(9_998):
        limiter.take(f"other {number}")
    clock.now_s += 30
    limiter.take("first")

    limiter.take("one too many")

    assert used_up(limiter, "first") == 0
    assert used_up(limiter, "second") == 2
    assert len(limiter._buckets) == 10_000


@pytest.mark.parametrize(
    ("address", "bucket"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:DB8:1:2::ffff", "2001:db8:1:2::"),
        ("2001:db8:1:3::1", "2001:db8:1:3::"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::1", "::"),
        ("fe80::1%eth0", "fe80::"),
        ("", ""),
        ("unix", "unix"),
    ],
)
def test_an_ipv6_customer_is_one_bucket(address: str, bucket: str) -> None:
    """A /64 is what one of them has; its 2**64 addresses must not be as many tries."""
    assert address_bucket(address) == bucket


def test_only_so_many_are_under_way_at_once() -> None:
    crowding = Crowding("requests_at_once", 2)
    crowding.enter("acme")
    crowding.enter("acme")
    crowding.enter("other")
    with pytest.raises(TooManyRequests) as refused:
        crowding.enter("acme")
    assert (refused.value.limit, refused.value.retry_after_s) == ("requests_at_once", 1)

    crowding.leave("acme")
    crowding.enter("acme")


def test_without_a_limit_any_number_is() -> None:
    crowding = Crowding("requests_at_once", 0)
    for _ in range(1000):
        crowding.enter("acme")
