"""Stores for tests: where they are, and what is put into them."""

import asyncio
import hashlib
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from gateway.config.store_url import IN_MEMORY, sqlite_file, sqlite_url
from gateway.domain.model import Scope, SessionId
from gateway.domain.records import Link, Session, StoredKey
from gateway.store.base import Store
from gateway.store.database import Database, Row, Statement
from gateway.store.postgres import Postgres
from gateway.store.sqlite import Sqlite
from tests import postgres

START = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)

_numbers = count(1)


def address_of(kind: str, directory: Path) -> str:
    """The address of a new store of this kind."""
    makers: Mapping[str, Callable[[], str]] = {
        "memory": lambda: IN_MEMORY,
        "sqlite": lambda: sqlite_url(str(directory / "a b#?%41ü" / "gateway.db")),
        "postgres": lambda: postgres.server().new_database(),
    }
    return makers[kind]()


def execute(url: str, statement: str) -> str:
    """What another program is told, a row a line, when it does *statement* in the store at *url*.

    It commits; it leaves the store's own connections alone.
    """
    if not url.startswith("sqlite:"):
        return postgres.server().execute(statement, database=url.rpartition("/")[2])
    with closing(sqlite3.connect(sqlite_file(url) or "", isolation_level=None)) as connection:
        rows = connection.execute(statement).fetchall()
    return "".join("|".join(map(str, row)) + "\n" for row in rows)


def contents(url: str) -> bytes:
    """All that the store at *url* keeps: the bytes of its files, or a dump of its database."""
    if not url.startswith("sqlite:"):
        return postgres.server().dump(url)
    file = Path(sqlite_file(url) or "")
    return b"".join(one.read_bytes() for one in file.parent.glob(f"{file.name}*"))


class Noting(Database):
    """Notes statements, to be done elsewhere, and answers that there is nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[Statement] = []

    async def _migrate(self) -> None:
        pass

    async def _version(self) -> int:
        return 0

    async def _read(self, text: str, values: Sequence[str | int | None]) -> Sequence[Row]:
        self.noted.append((text, values))
        return []

    async def _write(self, batch: Sequence[Statement]) -> Sequence[Sequence[Row]]:
        self.noted += batch
        return [[] for _ in batch]


@asynccontextmanager
async def database_at(url: str) -> AsyncIterator[Database]:
    """The database of the store at *url*, up to date."""
    file = sqlite_file(url) if url.startswith("sqlite") else None
    async with Sqlite.running(file) if file else Postgres.running(url, None) as database:
        await database.start()
        yield database


def session(number: int | None = None, **changes: Any) -> Session:
    """A session; one with a larger number is newer."""
    number = next(_numbers) if number is None else number
    values: dict[str, Any] = {
        "id": SessionId(f"sess_{number}"),
        "org": "acme",
        "created_at": START + timedelta(seconds=number),
    }
    return Session(**{**values, **changes})


def digest(text: str) -> bytes:
    """As a key or a ticket is known."""
    return hashlib.sha256(text.encode()).digest()


def key(key_id: str = "ci", **changes: Any) -> StoredKey:
    """A key whose text is its id."""
    values: dict[str, Any] = {
        "id": key_id,
        "org": "acme",
        "digest": digest(key_id),
        "scopes": frozenset({Scope.FILES_READ, Scope.ARCHIVES_READ}),
        "created_at": START,
    }
    return StoredKey(**{**values, **changes})


def link(link_id: str = "l1", **changes: Any) -> Link:
    """A link for an hour whose ticket is its id."""
    now = datetime.now(UTC).replace(microsecond=1)
    values: dict[str, Any] = {
        "id": link_id,
        "digest": digest(link_id),
        "org": "acme",
        "session_id": SessionId("s1"),
        "key_id": "ci",
        "target": '{"path":"a.txt"}',
        "created_at": now,
        "expires_at": now + timedelta(hours=1),
    }
    return Link(**{**values, **changes})


def other_process(url: str, *words: str) -> "subprocess.Popen[str]":
    """Another process that uses the store; see `tests.store_process`."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.store_process", url, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


async def said_by(process: "subprocess.Popen[str]") -> str:
    """All that it prints, once it has ended well."""
    out, _ = await asyncio.to_thread(process.communicate, timeout=60)
    assert process.returncode == 0
    return out


class Slowness:
    """How late this machine is at its worst, by what the store and the loop take meanwhile."""

    worst_s = 0.0

    @classmethod
    @asynccontextmanager
    async def measured(cls, store: Store) -> AsyncIterator["Slowness"]:
        found = cls()

        async def measure() -> None:
            while True:
                began = time.monotonic()
                await asyncio.sleep(0.01)
                await store.check()
                found.worst_s = max(found.worst_s, time.monotonic() - began - 0.01)

        measuring = asyncio.create_task(measure())
        try:
            yield found
        finally:
            measuring.cancel()
