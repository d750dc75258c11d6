"""What is remembered of lookups."""

import asyncio

import pytest

from gateway.domain.errors import StoreUnavailable
from gateway.store import recent
from gateway.store.recent import Recent


async def _one() -> int | None:
    return 1


async def _nothing() -> int | None:
    return None


async def _away() -> int | None:
    raise StoreUnavailable


async def test_what_is_known_is_told_for_a_moment_even_when_the_store_is_away() -> None:
    known: Recent[str, int] = Recent()
    await known.get("a", _one)

    assert await known.get("a", _away) == 1
    await asyncio.sleep(0.51)
    with pytest.raises(StoreUnavailable):
        await known.get("a", _away)


async def test_a_slow_answer_is_as_old_as_its_question() -> None:
    known: Recent[str, int] = Recent()

    async def slow() -> int:
        await asyncio.sleep(0.51)
        return 1

    assert await known.get("a", slow) == 1

    assert await known.get("a", _nothing) is None


async def test_that_there_is_nothing_is_not_remembered() -> None:
    known: Recent[str, int] = Recent()
    assert await known.get("a", _nothing) is None

    assert await known.get("a", _one) == 1


async def test_what_was_asked_before_a_write_is_not_remembered_after_it() -> None:
    known: Recent[str, int] = Recent()
    asked, answer = asyncio.Event(), asyncio.Event()

    async def old() -> int:
        asked.set()
        await answer.wait()
        return 0

    reading = asyncio.create_task(known.get("a", old))
    await asked.wait()
    known.forget()
    answer.set()
    assert await reading == 0

    assert await known.get("a", _one) == 1


async def test_no_more_than_so_many_are_remembered() -> None:
    known: Recent[int, int] = Recent()
    for number in range(recent._MOST + 10):
        await known.get(number, _one)

    assert len(known._found) == recent._MOST
    assert await known.get(recent._MOST + 9, _away) == 1
    with pytest.raises(StoreUnavailable):
        await known.get(0, _away)
