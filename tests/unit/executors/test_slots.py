"""Slots: who waits for whom."""

import asyncio

import pytest

from gateway.executors.slots import Slots


async def waits(slots: Slots, workspace: str) -> bool:
    try:
        await asyncio.wait_for(slots.acquire(workspace), 0.02)
    except TimeoutError:
        return True
    return False


async def test_one_call_too_many_waits_for_a_slot():
    slots = Slots(2, None)
    await slots.acquire("s1")
    await slots.acquire("s1")
    waiting = asyncio.ensure_future(slots.acquire("s2"))
    await asyncio.sleep(0.01)
    assert not waiting.done()

    slots.release("s1")

    await asyncio.wait_for(waiting, 1)


async def test_a_workspace_waits_for_itself_alone():
    slots = Slots(10, 1)
    await slots.acquire("s1")

    assert await waits(slots, "s1")
    assert not await waits(slots, "s2")


async def test_who_waits_for_a_workspace_keeps_no_slot_from_others():
    slots = Slots(2, 1)
    await slots.acquire("s1")
    crowd = [asyncio.ensure_future(slots.acquire("s1")) for _ in range(5)]
    await asyncio.sleep(0)

    assert not await waits(slots, "s2")
    for waiting in crowd:
        waiting.cancel()


@pytest.mark.parametrize("per_workspace", [None, 1])
async def test_a_wait_that_is_given_up_leaves_nothing_behind(per_workspace):
    slots = Slots(1, per_workspace)
    await slots.acquire("s1")
    assert await waits(slots, "s1")
    assert await waits(slots, "s2")
    slots.release("s1")

    for _ in range(3):
        await asyncio.wait_for(slots.acquire("s2"), 1)
        slots.release("s2")
    assert not slots._of
