"""Opens the store that a URL names."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Self

from gateway.config.store_url import sqlite_file
from gateway.domain.errors import StoreUnusable
from gateway.store.base import Store
from gateway.store.database import Database
from gateway.store.events import SqlEvents
from gateway.store.keys import SqlKeys
from gateway.store.links import SqlLinks
from gateway.store.migrations import steps_from
from gateway.store.sessions import SqlSessions
from gateway.store.sqlite import Sqlite
from gateway.system.background import Background


class SqlStore(Store):
    """All of it in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.sessions: SqlSessions = SqlSessions(database)
        self.keys: SqlKeys = SqlKeys(database)
        self.links: SqlLinks = SqlLinks(database)
        self.events: SqlEvents = SqlEvents(database)

    async def check(self) -> None:
        await self._database.read("SELECT 1 FROM ledgers LIMIT 1")

    @asynccontextmanager
    async def working(self, background: Background) -> AsyncIterator[Self]:
        """Do, meanwhile, what nobody asks for."""
        async with (
            background.beside("store.start", self._database.keep_starting),
            background.beside("store.uses", self.keys.keep_writing_uses),
            background.beside("store.links", self.links.keep_purging),
            background.beside("store.events", self.events.keep_listening),
        ):
            yield self


@asynccontextmanager
async def opened(
    url: str, password: str | None = None, background: Background | None = None
) -> AsyncIterator[Store]:
    """The store at *url*, which the config has checked; raise `StoreUnusable`.

    A PostgreSQL server that cannot be reached yet is no error: until it can, calls raise
    `StoreUnavailable`. *background* knows how the store's own work goes.
    """
    async with _database(url, password) as database:
        await database.start()
        async with SqlStore(database).working(background or Background()) as store:
            yield store


async def missing_steps(url: str, password: str | None = None) -> int:
    """How many steps the schema of the store at *url* lacks; nothing there is changed.

    Raises `StoreUnavailable`, and `StoreUnusable` if no step leads from there to here.
    """
    async with _database(url, password) as database:
        return len(steps_from(await database.version()))


def _database(url: str, password: str | None) -> AbstractAsyncContextManager[Database]:
    if url.startswith("sqlite:"):
        return Sqlite.running(sqlite_file(url))
    try:
        from gateway.store.postgres import Postgres
    except ImportError as exc:
        raise StoreUnusable(
            "store.url: PostgreSQL needs the extra: pip install 'workspace-gateway[postgres]'"
        ) from exc
    return Postgres.running(url, password)
