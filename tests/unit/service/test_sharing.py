"""Many who ask for the same while it is under way are one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from gateway.service.sharing import Shared


class Opening:
    """Something that opens when it is let, and counts what happens to it."""

    def __init__(self) -> None:
        self.may_open = asyncio.Event()
        self.failure: Exception | None = None
        self.begun = self.entered = self.left = self.given_up = 0

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[int]:
        self.begun += 1
        number = self.begun
        try:
            await self.may_open.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        if self.failure is not None:
            raise self.failure
        self.entered += 1
        try:
            yield number
        finally:
            self.left += 1


@pytest.fixture
def opening() -> Opening:
    return Opening()


async def _used(shared: Shared[int], opening: Opening, hold: asyncio.Event) -> int:
    async with shared.entered("key", opening) as got:
        await hold.wait()
        return got


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_those_who_come_meanwhile_get_the_same_and_the_last_leaves_it(
    opening: Opening,
) -> None:
    shared, hold = Shared[int](), asyncio.Event()
    users = [asyncio.create_task(_used(shared, opening, hold)) for _ in range(20)]
    await _turns()
    opening.may_open.set()
    await _turns()
    users[0].cancel()
    await _turns()

    assert (opening.begun, opening.entered, opening.left) == (1, 1, 0)
    hold.set()
    assert await asyncio.gather(*users[1:]) == [1] * 19
    assert opening.left == 1


async def test_who_comes_when_it_is_there_gets_another(opening: Opening) -> None:
    """It may be out of date."""
    shared = Shared[int]()
    opening.may_open.set()
    async with shared.entered("key", opening) as first, shared.entered("key", opening) as second:
        assert (first, second) == (1, 2)
    assert opening.left == 2


async def test_who_comes_later_gets_another_though_the_first_is_still_under_way(
    opening: Opening,
) -> None:
    """What has been written in between is not in it."""
    shared, hold = Shared[int](), asyncio.Event()
    hold.set()
    first = asyncio.create_task(_used(shared, opening, hold))
    await asyncio.sleep(0.3)
    second = asyncio.create_task(_used(shared, opening, hold))
    await _turns()
    opening.may_open.set()

    assert await asyncio.gather(first, second) == [1, 2]
    assert opening.left == 2


async def test_another_key_is_another(opening: Opening) -> None:
    shared = Shared[int]()
    async with AsyncExitStack() as stack:
        asking = [
            asyncio.create_task(stack.enter_async_context(shared.entered(key, opening)))
            for key in ("a", "b")
        ]
        await _turns()
        opening.may_open.set()
        assert sorted(await asyncio.gather(*asking)) == [1, 2]


async def test_it_goes_on_for_those_who_stay_and_not_for_nobody(opening: Opening) -> None:
    """The first is no other than the rest."""
    shared, hold = Shared[int](), asyncio.Event()
    hold.set()
    first, second = (asyncio.create_task(_used(shared, opening, hold)) for _ in range(2))
    await _turns()
    first.cancel()
    await _turns()
    assert opening.given_up == 0
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    assert (opening.begun, opening.given_up, opening.left) == (1, 1, 0)

    opening.may_open.set()
    assert await _used(shared, opening, hold) == 2


async def test_a_failure_is_everybodys_and_the_next_one_tries_again(opening: Opening) -> None:
    shared, hold = Shared[int](), asyncio.Event()
    hold.set()
    opening.failure = LookupError("no")
    users = [asyncio.create_task(_used(shared, opening, hold)) for _ in range(3)]
    await _turns()
    opening.may_open.set()

    for found in await asyncio.gather(*users, return_exceptions=True):
        assert isinstance(found, LookupError)
    opening.failure = None
    assert await _used(shared, opening, hold) == 2


async def test_who_is_cancelled_while_leaving_has_left(opening: Opening) -> None:
    shared, hold = Shared[int](), asyncio.Event()
    opening.may_open.set()
    user = asyncio.create_task(_used(shared, opening, hold))
    await _turns()
    hold.set()
    await asyncio.sleep(0)
    user.cancel()
    await asyncio.gather(user, return_exceptions=True)

    assert (opening.entered, opening.left) == (1, 1)
