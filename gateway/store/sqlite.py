"""SQLite, by the standard library on threads of the gateway's own.

A library that makes each statement awaitable would leave a transaction open between two of them,
with every other process waiting, for as long as the loop is busy or for good when the request is
cancelled. Here a transaction is one call on a thread: nothing can come in between.
"""

import asyncio
import os
import sqlite3
import threading
import time
from asyncio import wrap_future
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TypeVar
from urllib.parse import quote

from gateway.domain.errors import StoreUnusable
from gateway.store.database import MIGRATION_S, Database, Duplicate, Outage, Row, Statement
from gateway.store.migrations import statements, steps_from
from gateway.system.pool import Pool

_READERS = 4
_CLOSING_S = 2.0
_BUSY_MS = 4000  # less than a call's deadline: "locked" says more than "no answer"
_BETWEEN_TRIES_S = 0.05
_SETTINGS = (
    f"PRAGMA busy_timeout = {_BUSY_MS}",
    "PRAGMA foreign_keys = ON",
    "PRAGMA synchronous = FULL",  # a key that was revoked stays revoked through a power failure
)
_UNIQUE = {sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY}
_HOPELESS = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}

T = TypeVar("T")


class Sqlite(Database):
    """A database in *file*, or with None in the memory of this process, until it ends."""

    @classmethod
    @asynccontextmanager
    async def running(cls, file: str | None) -> AsyncIterator["Sqlite"]:
        """The database, to be started; its file is made with the mode 0600 if there is none."""
        database = cls(file)
        try:
            yield database
        finally:
            await database._close()

    def __init__(self, file: str | None) -> None:
        super().__init__()
        self._file = file
        self._writer = Pool("store-writer", 1)
        # A database in memory belongs to one connection.
        self._readers = Pool("store-reader", _READERS) if file is not None else self._writer
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False

    async def _migrate(self) -> None:
        await wrap_future(self._writer.submit(self._migrate_now))

    async def _version(self) -> int:
        def look() -> int:
            if self._file is None or not os.path.exists(self._file):
                return 0
            with _translated(), self._connection() as connection:
                return _version_of(connection)

        return await wrap_future(self._readers.submit(look))

    async def _read(self, text: str, values: Sequence[str | int | None]) -> Sequence[Row]:
        def read(connection: sqlite3.Connection) -> Sequence[Row]:
            return _rows(connection, text, values)

        return await self._on(self._readers, read)

    async def _write(self, batch: Sequence[Statement]) -> Sequence[Sequence[Row]]:
        def write(connection: sqlite3.Connection) -> Sequence[Sequence[Row]]:
            with _transaction(connection):
                return [_rows(connection, text, values) for text, values in batch]

        return await self._on(self._writer, write)

    async def _on(self, pool: Pool, work: Callable[[sqlite3.Connection], T]) -> T:
        def call() -> T:
            with _translated(), self._connection() as connection:
                return work(connection)

        return await wrap_future(pool.submit(call))

    def _migrate_now(self) -> None:
        try:
            if self._file is not None:
                _make(self._file)
            self._migrate_in_turn()
        except OSError as exc:
            raise StoreUnusable(f"store.url: cannot open {self._file!a}: {exc.strerror}") from exc
        except Outage as exc:
            if _code(exc.__cause__) & 0xFF in _HOPELESS:
                raise StoreUnusable(f"store.url: cannot use {self._file!a}: {exc}") from exc
            raise

    def _migrate_in_turn(self) -> None:
        # The busy timeout is not enough: a step may take longer, and whoever changes the journal's
        # mode while somebody else makes the database is told at once that it is locked.
        until = time.monotonic() + MIGRATION_S
        while True:
            try:
                with _translated(), self._connection() as connection:
                    connection.execute("PRAGMA journal_mode = WAL")
                    return _migrate(connection)
            except Outage as exc:
                is_busy = _code(exc.__cause__) & 0xFF == sqlite3.SQLITE_BUSY
                if not is_busy or self._closed or time.monotonic() > until:
                    raise
            time.sleep(_BETWEEN_TRIES_S)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        connection = connection or _connected(self._file)
        keep = self._file is None
        try:
            yield connection
            keep = True
        finally:
            # After a failure a new one is made: the file may have been replaced.
            with self._lock:
                if keep and not self._closed:
                    self._idle.append(connection)
                else:
                    connection.close()

    async def _close(self) -> None:
        with self._lock:
            self._closed = True  # what is in use now is closed by whoever uses it
            idle, self._idle = self._idle, []
        closing = wrap_future(self._writer.submit(_close_all, idle))
        for pool in {self._writer, self._readers}:
            pool.shutdown(wait=False)
        await asyncio.wait([closing], timeout=_CLOSING_S)


def _close_all(connections: Iterable[sqlite3.Connection]) -> None:
    for connection in connections:
        connection.close()


def _make(file: str) -> None:
    os.makedirs(os.path.dirname(file), mode=0o700, exist_ok=True)
    # One that is there must not be opened and closed beside SQLite: that would end every lock that
    # this process has on it (https://www.sqlite.org/howtocorrupt.html, 2.2). SQLite gives the files
    # that it makes beside this one the same mode.
    with suppress(FileExistsError):
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _connected(file: str | None) -> sqlite3.Connection:
    # mode=rw: a file that is gone is an outage, not an empty store.
    name = ":memory:" if file is None else f"file:{quote(os.fsencode(file))}?mode=rw"
    connection = sqlite3.connect(name, uri=True, isolation_level=None, check_same_thread=False)
    try:
        for setting in _SETTINGS:
            connection.execute(setting)
    except BaseException:
        connection.close()
        raise
    return connection


def _version_of(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def _migrate(connection: sqlite3.Connection) -> None:
    with _transaction(connection):
        version = _version_of(connection)
        for number, step in enumerate(steps_from(version), version + 1):
            for statement in statements(step):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")


def _rows(
    connection: sqlite3.Connection, text: str, values: Sequence[str | int | None]
) -> Sequence[Row]:
    return connection.execute(text.replace("$", "?"), values).fetchall()


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    # Not a plain BEGIN: one that reads first and writes then fails at once when another process
    # has written in between, however long the busy timeout is.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.IntegrityError as exc:
        if exc.sqlite_errorcode not in _UNIQUE:
            raise
        raise Duplicate from exc
    except sqlite3.DatabaseError as exc:
        if _code(exc) == sqlite3.SQLITE_ERROR:
            raise  # a statement that is wrong, not a database that is away
        raise Outage(str(exc)) from exc


def _code(error: BaseException | None) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
