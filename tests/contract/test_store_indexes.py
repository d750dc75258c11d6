"""Among ten thousand sessions, keys, links and events nothing is looked for row by row."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.domain.model import SessionId
from gateway.domain.records import Session
from gateway.store.database import Database, Statement
from gateway.store.events import SqlEvents
from gateway.store.keys import SqlKeys
from gateway.store.links import SqlLinks
from gateway.store.sessions import SqlSessions
from gateway.store.sqlite import Sqlite
from tests import stores
from tests.stores import Noting, database_at, digest, key, link

MANY = 10_000
S1 = SessionId("sess_17")


def _session(number: int) -> Session:
    return stores.session(
        number,
        org=f"org_{number % 20}",
        external_id=f"task_{number}",
        workspace=f"box_{number}",
        agent_id=f"agt_{number % 7}",
        metadata={"even": str(number % 2 == 0), "n": str(number), "x": str(number % 100)},
    )


async def _filling() -> list[Statement]:
    noting = Noting()
    await noting.start()
    sessions, keys, links = SqlSessions(noting), SqlKeys(noting), SqlLinks(noting)
    for number in range(MANY):
        await sessions.create(_session(number))
        await keys.create(key(f"k{number}"))
        gone = datetime.now(UTC) - timedelta(hours=1)
        one = link(f"l{number}", session_id=SessionId(f"sess_{number}"))
        await links.create(replace(one, expires_at=gone) if number == 0 else one)
    return [
        *noting.noted,
        ("INSERT INTO ledgers (session_id, last_event) SELECT id, 1 FROM sessions", ()),
        (
            "INSERT INTO events (session_id, id, kind, data, created_at)"
            " SELECT id, 1, 'test', '{}', 1 FROM sessions",
            (),
        ),
        ("INSERT INTO former_names (name) SELECT external_id FROM sessions", ()),
    ]


async def _asked() -> list[Statement]:
    """Every statement that a request can cause."""
    noting = Noting()
    await noting.start()
    sessions, keys, links, events = (
        one(noting) for one in (SqlSessions, SqlKeys, SqlLinks, SqlEvents)
    )
    cursor = "MTc2NzI2ODgwMDEyMzQ1Ni5zZXNzXzE3"
    await sessions.find("task_17", "org_17")
    await sessions.claimed("box_17")
    for agent_id in (None, "agt_1"):
        for metadata in ({}, {"n": "17"}, {"n": "17", "x": "17"}):
            for before in (None, cursor):
                await sessions.page(
                    "org_17", limit=50, cursor=before, agent_id=agent_id, metadata=metadata
                )
    await sessions.left("provisioning", datetime.now(UTC), 100)
    await sessions.update(_session(17), _session(17))
    await sessions.delete(S1)
    await keys.by_digest(digest("k17"))
    await keys.by_id("k17")
    await keys.revoke("k17")
    await keys.rotate("k17", digest("new"))
    await links.look(digest("l17"))
    await links.take(digest("l17"))
    await links.by_id("l17")
    await links.revoke("l17")
    await events.after(S1, 0, 100)
    await events._newest([S1])
    return noting.noted


async def _fill(url: str) -> None:
    async with database_at(url) as database:
        filling = await _filling()
        for start in range(0, len(filling), 1000):
            await database.write(*filling[start : start + 1000])
        await database.write(("ANALYZE", ()))


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Each kind of store with ten thousand of everything."""
    url = stores.address_of(request.param, tmp_path_factory.mktemp("full"))
    asyncio.run(_fill(url))
    return url


@pytest.fixture
async def full(address: str) -> AsyncIterator[Database]:
    """The database of that store."""
    async with database_at(address) as database:
        yield database


async def _plan(database: Database, statement: Statement) -> str:
    text, values = statement
    if isinstance(database, Sqlite):
        rows = await database.read(f"EXPLAIN QUERY PLAN {text}", *values)
        return "\n".join(row[3] for row in rows)
    ((rows),) = await database.write((f"EXPLAIN {text}", values))
    return "\n".join(row[0] for row in rows)


async def test_every_lookup_goes_by_an_index(full: Database) -> None:
    for statement in await _asked():
        plan = await _plan(full, statement)

        assert not re.search(r"Seq Scan|SCAN (?!.*USING)", plan), f"{statement[0]}\n{plan}"


async def test_lookups_are_quick(full: Database) -> None:
    sessions, keys = SqlSessions(full), SqlKeys(full)
    took: list[float] = []

    for number in range(0, MANY, 50):
        begun = time.monotonic()
        one = _session(number)
        assert await sessions.find(f"task_{number}", one.org) == one
        assert await keys.by_digest(digest(f"k{number}")) is not None
        page = await sessions.page(one.org, limit=50, metadata={"n": str(number)})
        took.append(time.monotonic() - begun)
        assert page.sessions == (one,)

    took.sort()
    print(f"three lookups: median {took[100] * 1000:.1f} ms, p99 {took[198] * 1000:.1f} ms")
    assert took[100] < 0.2


async def test_all_of_them_can_be_read_page_by_page(full: Database) -> None:
    sessions = SqlSessions(full)
    seen: list[str] = []
    cursor = None
    while True:
        page = await sessions.page("org_3", limit=100, cursor=cursor, metadata={"even": "False"})
        seen += [one.id for one in page.sessions]
        cursor = page.next_cursor
        if cursor is None:
            break

    assert seen == [f"sess_{number}" for number in reversed(range(3, MANY, 20))]
