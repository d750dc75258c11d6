"""Gateways whose store is full of sessions, all of which have the same workspace."""

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from gateway.config.store_url import sqlite_url
from gateway.domain.model import SessionId
from gateway.domain.records import Session
from gateway.store.sessions import SqlSessions
from tests import postgres
from tests.benchmarks.peers import Bench, gateway_with, local
from tests.benchmarks.processes import Missing, Server
from tests.stores import Noting, database_at

SESSIONS = 10_000
WORKSPACE = "s20"
_FIRST = datetime(2026, 1, 1, tzinfo=UTC)
_AT_ONCE = 1000


@contextlib.contextmanager
def gateway_sqlite(bench: Bench) -> Iterator[Server]:
    """Serve with sessions in SQLite."""
    name = "gateway-sqlite"
    with (
        tempfile.TemporaryDirectory(dir=bench.directory(name)) as home,
        _full(bench, name, sqlite_url(f"{home}/gateway.db")) as server,
    ):
        yield server


@contextlib.contextmanager
def gateway_postgres(bench: Bench) -> Iterator[Server]:
    """Serve with sessions in PostgreSQL."""
    try:
        url = postgres.server().new_database()
    except pytest.skip.Exception as exc:
        raise Missing(f"{exc}: apt-get install postgresql") from exc
    with _full(bench, "gateway-postgres", url) as server:
        yield server


def session(number: int) -> Session:
    """Return one of the sessions, of which every other one is the caller's."""
    return Session(
        id=SessionId(f"sess_{number:05}"),
        org="bench" if number % 2 == 0 else f"org_{number % 19}",
        created_at=_FIRST + timedelta(seconds=number),
        external_id=f"run_{number}",
        agent_id=f"agt_{number % 7}",
        metadata={"run": str(number), "tenth": str(number % 10)},
        workspace=WORKSPACE,
    )


@contextlib.contextmanager
def _full(bench: Bench, name: str, url: str) -> Iterator[Server]:
    asyncio.run(_fill(url))
    with gateway_with(bench, name, f"{local(bench)}store: {{url: '{url}'}}\n") as server:
        yield server


async def _fill(url: str) -> None:
    noting = Noting()
    await noting.start()
    for number in range(SESSIONS):
        await SqlSessions(noting).create(session(number))
    async with database_at(url) as database:
        for start in range(0, len(noting.noted), _AT_ONCE):
            await database.write(*noting.noted[start : start + _AT_ONCE])
