"""What every store promises when several processes use it, and when one of them dies."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from gateway.domain.errors import StoreUnusable
from gateway.domain.records import StoredKey
from gateway.store.base import Store
from gateway.store.store import opened
from tests.stores import Slowness, digest, execute, key, other_process, said_by, session

WITHIN_S = 1.0


async def _until(done: Callable[[], Awaitable[bool]], begun: float) -> float:
    """How long after *begun* it is so."""
    while not await done():
        assert time.monotonic() < begun + 10
        await asyncio.sleep(0.01)
    return time.monotonic() - begun


async def test_a_revoked_key_stops_within_a_second_in_every_process(shared: str) -> None:
    """Although this process asks for it all the time."""
    async with opened(shared) as store, Slowness.measured(store) as slowness:
        await store.keys.create(key("ci"))

        async def look() -> StoredKey:
            found = await store.keys.by_digest(digest("ci"))
            assert found is not None
            return found

        other = other_process(shared, "revoke", "ci")
        assert other.stdout is not None
        word = asyncio.create_task(asyncio.to_thread(other.stdout.readline))
        while not word.done():
            await look()
            await asyncio.sleep(0.005)
        begun = time.monotonic()

        async def revoked() -> bool:
            return (await look()).revoked_at is not None

        took = await _until(revoked, begun)

        await said_by(other)
    assert word.result() == "True\n"
    assert took < WITHIN_S + 4 * slowness.worst_s


async def test_a_deleted_session_stops_within_a_second_in_every_process(shared: str) -> None:
    async with opened(shared) as store, Slowness.measured(store) as slowness:
        one = session(1, external_id="task")
        await store.sessions.create(one)
        other = other_process(shared, "delete", one.id)
        assert other.stdout is not None
        word = asyncio.create_task(asyncio.to_thread(other.stdout.readline))
        while not word.done():
            for reference in (one.id, "task"):
                await store.sessions.find(reference, "acme")
            await asyncio.sleep(0.005)
        begun = time.monotonic()

        async def gone() -> bool:
            return [await store.sessions.find(name, "acme") for name in (one.id, "task")] == [
                None,
                None,
            ]

        took = await _until(gone, begun)

        await said_by(other)
        assert await store.sessions.claimed(one.id)
    assert word.result() == "True\n"
    assert took < WITHIN_S + 4 * slowness.worst_s


async def test_what_is_new_is_found_at_once_although_it_was_asked_for(shared: str) -> None:
    """That something is not there is not remembered."""
    async with opened(shared) as here, opened(shared) as there:
        assert await here.sessions.find("sess_1", "acme") is None
        assert await here.keys.by_digest(digest("ci")) is None

        await there.sessions.create(session(1))
        await there.keys.create(key("ci"))

        assert await here.sessions.find("sess_1", "acme") is not None
        assert await here.keys.by_digest(digest("ci")) is not None


async def test_processes_that_write_at_once_lose_nothing(shared: str) -> None:
    async with opened(shared) as store:
        writers = [other_process(shared, "create", f"p{number}", "150") for number in range(2)]
        printed = [(await said_by(one)).split() for one in writers]

        page = await store.sessions.page("acme", limit=1000)
        mine = await store.sessions.page("acme", limit=1000, metadata={"by": "p1"})

    assert [len(names) for names in printed] == [150, 150]
    assert {one.id for one in page.sessions} == {*printed[0], *printed[1]}
    assert {one.id for one in mine.sessions} == set(printed[1])


async def test_a_writer_that_is_killed_leaves_all_that_it_was_told_is_kept(shared: str) -> None:
    """Each session has its metadata or is not there; nobody has to wait for the dead one's lock."""
    async with opened(shared) as store:
        for name in ("a", "b", "c"):
            with other_process(shared, "create", name, "100000") as writer:
                assert writer.stdout is not None
                told = [await asyncio.to_thread(writer.stdout.readline) for _ in range(7)]
                writer.kill()
                told += await asyncio.to_thread(writer.stdout.readlines)
            whole = {line.strip() for line in told if line.endswith("\n")}

            begun = time.monotonic()
            await store.sessions.create(session(external_id=name))
            waited = time.monotonic() - begun
            kept = await store.sessions.page("acme", limit=100_000, metadata={"by": name})

            ids = {one.id for one in kept.sessions}
            everything = await store.sessions.page("acme", limit=100_000)
            assert waited < 2
            assert len(whole) >= 7
            assert whole <= ids
            assert {one.id for one in everything.sessions if one.id.startswith(f"{name}-")} == ids


async def test_processes_may_start_on_an_empty_store_at_the_same_moment(shared: str) -> None:
    starting = [other_process(shared, "start") for _ in range(5)]

    said = [await said_by(one) for one in starting]

    assert said == [""] * 5
    async with opened(shared) as store:
        await store.sessions.create(session())


async def test_it_is_all_there_at_the_next_start(shared: str) -> None:
    one = session(metadata={"a": "b"})
    async with opened(shared) as store:
        await store.sessions.create(one)

    async with opened(shared) as store:
        assert await store.sessions.find(one.id, "acme") == one
        assert await store.events.after(one.id, 0, 1) == []


def _make_newer(url: str) -> None:
    is_sqlite = url.startswith("sqlite")
    execute(
        url, "PRAGMA user_version = 999" if is_sqlite else "INSERT INTO schema_version VALUES (999)"
    )


async def test_a_newer_schema_is_refused_and_left_alone(shared: str) -> None:
    async with opened(shared) as store:
        await store.check()
    _make_newer(shared)

    for _ in range(2):
        with pytest.raises(StoreUnusable) as caught:
            async with opened(shared):
                pass

        assert "has version 999 of the schema" in caught.value.message
        assert "start one at least as new" in caught.value.message


async def test_what_runs_already_goes_on_beside_a_newer_gateway(shared: str) -> None:
    """Migrations only ever add: the old and the new run together while one replaces the other."""
    async with opened(shared) as store:
        _make_newer(shared)

        await store.sessions.create(session(1))
        assert await store.sessions.find("sess_1", "acme") is not None


async def test_lookups_are_remembered_for_no_more_than_a_second(store: Store) -> None:
    """A thousand of them cost next to nothing."""
    one = session(1)
    await store.sessions.create(one)
    await store.sessions.find(one.id, "acme")

    begun = time.process_time()
    for _ in range(1000):
        assert await store.sessions.find(one.id, "acme") is not None

    assert time.process_time() - begun < 0.1
