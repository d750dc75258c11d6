"""PostgreSQL, by asyncpg and a bounded pool that mends itself."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import asyncpg

from gateway.domain.errors import StoreUnusable
from gateway.store.database import DEADLINE_S, Database, Duplicate, Outage, Row, Statement
from gateway.store.migrations import steps_from

_CONNECTIONS = 10
_CLOSING_S = 2.0
_MIGRATION_LOCK = 0x776F726B73706163  # any number that nobody else would take
_SETTINGS = {
    "application_name": "workspace-gateway",
    # The server gives up when the gateway has: nothing is to pile up behind a lock.
    "statement_timeout": str(round(DEADLINE_S * 1000)),
    "idle_in_transaction_session_timeout": str(round(DEADLINE_S * 1000)),
}
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_AWAY = (
    asyncpg.InterfaceError,
    # What a connection raises that has been told of its end, but has not ended yet.
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    asyncpg.OperatorInterventionError,
    asyncpg.PostgresSystemError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TransactionRollbackError,
    OSError,
)


class Postgres(Database):
    """A database of a PostgreSQL server."""

    @classmethod
    @asynccontextmanager
    async def running(cls, url: str, password: str | None) -> AsyncIterator["Postgres"]:
        """Connect when there is something to do; raise `StoreUnusable` if *url* says nothing."""
        try:
            pool = await asyncpg.create_pool(
                url,
                password=password,
                min_size=0,
                max_size=_CONNECTIONS,
                timeout=DEADLINE_S,
                server_settings=_SETTINGS,
                reset=_tidied,
            )
        except ValueError as exc:
            raise StoreUnusable(f"store.url: {exc}") from exc
        try:
            yield cls(pool)
        finally:
            try:
                async with asyncio.timeout(_CLOSING_S):
                    await pool.close()
            except TimeoutError:
                pool.terminate()

    def __init__(self, pool: asyncpg.Pool) -> None:
        super().__init__()
        self._pool = pool

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[asyncpg.Connection]:
        async with self._pool.acquire(timeout=DEADLINE_S) as connection:
            try:
                yield connection
            except asyncio.CancelledError:
                # To give it back would wait for a server that may never answer again.
                connection.terminate()
                raise

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[asyncpg.Connection]:
        async with self._connected() as connection:
            transaction = connection.transaction()
            await transaction.start()
            try:
                yield connection
            except asyncio.CancelledError:
                raise  # with the connection it is over, too
            except BaseException:
                await transaction.rollback()
                raise
            await transaction.commit()

    async def _migrate(self) -> None:
        with _translated():
            async with self._transaction() as connection:
                # Statements of a migration may take their time.
                await connection.execute("SET LOCAL statement_timeout = 0")
                await connection.execute("SELECT pg_advisory_xact_lock($1)", _MIGRATION_LOCK)
                await connection.execute(
                    "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)"
                )
                version = await _version_of(connection)
                for number, step in enumerate(steps_from(version), version + 1):
                    await connection.execute(step)
                    await connection.execute("INSERT INTO schema_version VALUES ($1)", number)

    async def _version(self) -> int:
        with _translated():
            async with self._connected() as connection:
                if await connection.fetchval("SELECT to_regclass('schema_version')") is None:
                    return 0
                return await _version_of(connection)

    async def _read(self, text: str, values: Sequence[str | int | None]) -> Sequence[Row]:
        with _translated():
            async with self._connected() as connection:
                rows: Sequence[Row] = await connection.fetch(text, *values)
                return rows

    async def _write(self, batch: Sequence[Statement]) -> Sequence[Sequence[Row]]:
        with _translated():
            async with self._transaction() as connection:
                return [await connection.fetch(text, *values) for text, values in batch]


async def _version_of(connection: asyncpg.Connection) -> int:
    return await connection.fetchval("SELECT max(version) FROM schema_version") or 0


async def _tidied(connection: asyncpg.Connection) -> None:
    # Otherwise every call would be two: asyncpg's own reset asks the server each time, for the sake
    # of session state that statements here never make.
    if connection.is_in_transaction():
        await connection.reset()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except asyncpg.UniqueViolationError as exc:
        raise Duplicate from exc
    except TimeoutError:
        raise
    except _AWAY as exc:
        raise Outage(str(exc) or type(exc).__name__) from exc
