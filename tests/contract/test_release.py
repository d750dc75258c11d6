"""What is left, whenever and however, gives everything back."""

import asyncio
import time
from collections.abc import Callable, Coroutine

import pytest

from tests.contract.asking import at, content, keeps_nothing, listed, opened, refusal
from tests.rigs import Rig

SIZE = 3_000_000
ROUNDS = 8
CONTENT = bytes(range(250)) * (SIZE // 250)


@pytest.fixture(autouse=True)
def planted(rig: Rig) -> None:
    few = {f"d/{number}/f": b"" for number in range(80)}
    # Fewer than the local executor hands to its walk helper: what that keeps open is no leak.
    many = {f"many/{number}": b"" for number in range(300)}
    rig.plant({"f": CONTENT, **few, **many})


async def leave_before_reading(rig: Rig) -> None:
    async with opened(rig, "f"):
        pass


async def leave_after_a_look(rig: Rig) -> None:
    async with opened(rig, "f") as stream:
        await stream.read(0, 100)


async def leave_after_a_piece(rig: Rig) -> None:
    """Without closing the generator, as a `break` does it."""
    async with opened(rig, "f") as stream:
        async for _ in stream.chunks(0, stream.entry.size):
            break


async def leave_after_several_parts(rig: Rig) -> None:
    async with opened(rig, "f") as stream:
        for first in (1_000_000, 5, 2_000_000):
            async for _ in stream.chunks(first, 500_000):
                break


async def leave_by_an_error_of_our_own(rig: Rig) -> None:
    """It comes out as it is: the backend has no part in it."""

    async def read_and_fail() -> None:
        async with opened(rig, "f") as stream:
            async for _ in stream.chunks(0, stream.entry.size):
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await read_and_fail()


async def leave_by_being_cancelled(rig: Rig) -> None:
    reading = asyncio.Event()

    async def read_on() -> None:
        async with opened(rig, "f") as stream:
            while True:
                async for _ in stream.chunks(0, stream.entry.size):
                    reading.set()
                    await asyncio.sleep(0)

    task = asyncio.create_task(read_on())
    await reading.wait()
    await cancelled(task)


async def leave_a_walk_before_it_is_read(rig: Rig) -> None:
    async with rig.executor.walk(rig.workspace, at(""), depth=9):
        pass


async def leave_a_walk_after_a_batch(rig: Rig) -> None:
    async with rig.executor.walk(rig.workspace, at(""), depth=9) as walk:
        async for _ in walk:
            break


async def leave_a_walk_by_an_error_of_our_own(rig: Rig) -> None:
    async def walk_and_fail() -> None:
        async with rig.executor.walk(rig.workspace, at(""), depth=9) as walk:
            async for _ in walk:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await walk_and_fail()


async def open_what_is_not_there(rig: Rig) -> None:
    for path in ("missing", "d", "f/x"):
        await refusal(rig.executor.open(rig.workspace, at(path)))


LEAVING = [
    leave_before_reading,
    leave_after_a_look,
    leave_after_a_piece,
    leave_after_several_parts,
    leave_by_an_error_of_our_own,
    leave_by_being_cancelled,
    leave_a_walk_before_it_is_read,
    leave_a_walk_after_a_batch,
    leave_a_walk_by_an_error_of_our_own,
    open_what_is_not_there,
]


@pytest.mark.parametrize("leave", LEAVING, ids=lambda leave: leave.__name__)
async def test_nothing_is_kept(
    rig: Rig, leave: Callable[[Rig], Coroutine[None, None, None]]
) -> None:
    async def leave_often() -> None:
        for _ in range(ROUNDS):
            await leave(rig)

    await keeps_nothing(leave_often)
    assert await content(rig, "f") == CONTENT


async def open_and_read(rig: Rig) -> None:
    async with opened(rig, "f") as stream:
        await stream.read(0, 1)


async def begin_a_walk(rig: Rig) -> None:
    async with rig.executor.walk(rig.workspace, at(""), depth=9):
        pass


@pytest.mark.parametrize("enter", [open_and_read, begin_a_walk], ids=lambda each: each.__name__)
async def test_it_can_be_cancelled_at_any_moment(
    rig: Rig, enter: Callable[[Rig], Coroutine[None, None, None]]
) -> None:
    """Also in the middle of entering; then it is over at once, and nothing is kept."""
    begun = time.perf_counter()
    await enter(rig)
    duration_s = time.perf_counter() - begun

    async def cancel_often() -> None:
        for turns in range(12):
            task = asyncio.create_task(enter(rig))
            for _ in range(turns):
                await asyncio.sleep(0)
            await cancelled(task)
        for tenth in range(11):
            task = asyncio.create_task(enter(rig))
            await asyncio.sleep(duration_s * tenth / 10)
            await cancelled(task)

    await keeps_nothing(cancel_often)
    assert await content(rig, "f") == CONTENT
    assert len(await listed(rig, "d", depth=1)) == 80


async def cancelled(task: asyncio.Task[None]) -> None:
    """Cancel *task* and wait for its end; raise what it raises, if it was not just cancelled."""
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=5)
    assert done, "it did not end when it was cancelled"
    if not task.cancelled():
        task.result()
