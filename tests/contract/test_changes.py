"""Noticing changes: who says that it does notices them, and all others say that they do not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from gateway.domain.errors import Outage, SessionNotFound, Unsupported
from gateway.executors.base import Changed
from tests.rigs import Rig

MOST_TOLD = 100


def changes_of(rig: Rig, workspace: str | None = None) -> Any:
    """What the executor notices; the test ends here for one that says it does not."""
    if not rig.executor.capabilities.watches:
        with pytest.raises(Unsupported):
            rig.executor.changes(workspace or rig.workspace)
        return None
    return aclosing(rig.executor.changes(workspace or rig.workspace))


async def told(changes: AsyncIterator[Changed], *names: bytes) -> list[Changed]:
    """What is told until all of *names* have been; however it is divided."""
    wanted, found = set(names), []
    async with asyncio.timeout(60):
        while wanted:
            found.append(await anext(changes))
            wanted -= {path.raw for path in found[-1].paths}
    return found


async def watching(rig: Rig, changes: AsyncIterator[Changed]) -> None:
    """Return once the watch has begun: what is there before is no change."""

    async def touch() -> None:
        number = 0
        while True:
            number += 1
            rig.plant({"probe": b"x" * number})
            await asyncio.sleep(0.2)

    touching = asyncio.create_task(touch())
    await told(changes, b"probe")
    touching.cancel()


async def test_what_is_new_and_what_is_different_is_told(rig: Rig) -> None:
    rig.plant({"old": b"1", "same": b"2"})
    watched = changes_of(rig)
    if watched is None:
        return
    async with watched as changes:
        await watching(rig, changes)

        rig.plant({"old": b"different", "deep/new": b"3"})
        found = await told(changes, b"old", b"deep", b"deep/new")

    paths = {path.raw for one in found for path in one.paths}
    assert paths <= {b"old", b"deep", b"deep/new", b"probe"}


async def test_how_many_are_told_at_once_is_bounded(rig: Rig) -> None:
    """All the others are counted."""
    watched = changes_of(rig)
    if watched is None:
        return
    async with watched as changes:
        await watching(rig, changes)
        rig.plant({f"many/{number:04}": b"" for number in range(300)})
        count = 0
        async with asyncio.timeout(60):
            while count < 301:
                one = await anext(changes)
                assert len(one.paths) <= MOST_TOLD
                count += len([path for path in one.paths if path.raw != b"probe"]) + one.more

    assert count - 301 in (0, 1)  # the probe's last change may be among those that are not named


async def test_a_workspace_that_is_not_there_has_no_changes(rig: Rig) -> None:
    watched = changes_of(rig, "sess_unknown")
    if watched is None:
        return
    async with watched as changes:
        with pytest.raises((SessionNotFound, Outage)):
            await asyncio.wait_for(anext(changes), 30)
