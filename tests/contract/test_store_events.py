"""What every store promises of the ledgers."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from gateway.domain.errors import BadParameter
from gateway.domain.model import SessionId
from gateway.domain.records import Event
from gateway.store.base import Store
from gateway.store.events import KEPT
from gateway.store.store import opened
from gateway.system.background import Background
from tests.stores import execute, other_process, said_by

S1 = SessionId("s1")


async def test_ids_count_from_one_in_each_session(store: Store) -> None:
    ids = [
        (await store.events.append(SessionId(name), "test", {})).id for name in ("a", "b", "a", "a")
    ]

    assert ids == [1, 1, 2, 3]


async def test_reads_back_what_was_appended(store: Store) -> None:
    data = {"paths": ["a'b", "😀", "NUL \0"], "none": None, "deep": {"n": 1}}

    event = await store.events.append(S1, "workspace.changed", data)

    assert await store.events.after(S1, 0, 10) == [event]
    assert (event.session_id, event.id, event.kind) == (S1, 1, "workspace.changed")
    assert json.loads(event.data) == data
    assert abs(datetime.now(UTC) - event.created_at) < timedelta(seconds=30)


async def test_reads_on_from_an_id(store: Store) -> None:
    for _ in range(5):
        await store.events.append(S1, "test", {})

    assert [event.id for event in await store.events.after(S1, 2, 2)] == [3, 4]
    assert await store.events.after(S1, 5, 2) == []
    assert await store.events.after(SessionId("other"), 0, 2) == []
    assert list(await store.events.after(SessionId("a\0"), 0, 2)) == []


@pytest.mark.parametrize(
    ("session_id", "kind", "data"),
    [("a\0", "test", {}), ("s1", "a\0", {}), ("s1", "test", {"path": "\udcff"})],
)
async def test_text_that_no_database_holds_is_refused(
    store: Store, session_id: str, kind: str, data: dict[str, object]
) -> None:
    with pytest.raises(BadParameter):
        await store.events.append(SessionId(session_id), kind, data)

    assert await store.events.after(S1, 0, 1) == []


async def test_a_very_long_ledger_loses_its_oldest(store: Store) -> None:
    await store.events.append(SessionId("other"), "test", {})
    for _ in range(KEPT // 20):
        await asyncio.gather(*(store.events.append(S1, "test", {}) for _ in range(20)))
    for _ in range(5):
        await store.events.append(S1, "test", {})

    kept = [event.id for event in await store.events.after(S1, 0, 2 * KEPT)]

    assert kept == list(range(6, KEPT + 6))
    assert len(await store.events.after(SessionId("other"), 0, 9)) == 1


async def _ids(events: AsyncIterator[Event], most: int) -> list[int]:
    found: list[int] = []
    async for event in events:
        found.append(event.id)
        if len(found) == most:
            break
    return found


async def test_a_follower_gets_what_was_and_what_comes(store: Store) -> None:
    for _ in range(3):
        await store.events.append(S1, "test", {})
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        readers = [group.create_task(_ids(store.events.follow(S1, n), 5 - n)) for n in (0, 2, 4)]
        await asyncio.sleep(0.05)
        for _ in range(2):
            await store.events.append(SessionId("other"), "test", {})
            await store.events.append(S1, "test", {})

    assert [reader.result() for reader in readers] == [[1, 2, 3, 4, 5], [3, 4, 5], [5]]


async def test_a_follower_may_leave_while_it_waits(store: Store) -> None:
    waiting = asyncio.create_task(_ids(store.events.follow(S1, 0), 1))
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()

    await store.events.append(S1, "test", {})

    assert await _ids(store.events.follow(S1, 0), 1) == [1]


async def test_two_hundred_sessions_are_followed_at_once(shared: str) -> None:
    """More than one question asks for."""
    sessions = [SessionId(f"s{number}") for number in range(200)]
    async with opened(shared) as here, opened(shared) as there, asyncio.timeout(30):
        readers = [asyncio.create_task(_ids(here.events.follow(one, 0), 1)) for one in sessions]
        await asyncio.sleep(0.3)
        for one in sessions:
            await there.events.append(one, "test", {})

        assert await asyncio.gather(*readers) == [[1]] * 200


async def test_a_follower_hears_of_what_another_process_appends(shared: str) -> None:
    async with opened(shared) as store:
        reading = asyncio.create_task(_ids(store.events.follow(S1, 0), 40))
        writers = [other_process(shared, "append", "s1", "20") for _ in range(2)]
        written = [list(map(int, (await said_by(one)).split())) for one in writers]

        async with asyncio.timeout(2):
            ids = await reading

    assert ids == list(range(1, 41))
    assert sorted(written[0] + written[1]) == ids
    assert all(ids == sorted(ids) for ids in written)


async def test_a_failure_that_nobody_expects_does_not_end_the_listening(shared: str) -> None:
    """Somebody has changed the schema by hand, and back."""
    background = Background()
    async with opened(shared, background=background) as here, opened(shared) as there:
        following = asyncio.create_task(anext(here.events.follow(S1, 0)))
        with capture_logs() as logs:
            execute(shared, "ALTER TABLE ledgers RENAME TO renamed")
            async with asyncio.timeout(30):
                while not background.failing:
                    await asyncio.sleep(0.05)
            execute(shared, "ALTER TABLE renamed RENAME TO ledgers")
            await there.events.append(S1, "test", {})

            event = await asyncio.wait_for(following, 30)

    assert event.id == 1
    assert background.failing == ["store.events"]
    assert {(line["event"], line["work"]) for line in logs} == {
        ("background_work_failed", "store.events")
    }
