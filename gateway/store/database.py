"""What the store needs of a database: statements, in transactions, answered in time or refused."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

import structlog

from gateway.domain.errors import StoreUnavailable, StoreUnusable

log = structlog.get_logger()

DEADLINE_S = 5.0
"""For one call, from the wait for a connection to the last row."""

MIGRATION_S = 60.0
"""For bringing the schema up to date, and for waiting until others have."""

_BETWEEN_STARTS_S = 0.5

T = TypeVar("T")

Row = Sequence[Any]
Statement = tuple[str, Sequence[str | int | None]]
"""Text that SQLite and PostgreSQL understand alike, and what `$1` and so on stand for in it."""


class Duplicate(Exception):
    """Something that has to be unique is there already."""


class Outage(Exception):
    """The database does not do its work; says why, for the log."""


class Database(ABC):
    """A database that may go away and come back.

    A write that was refused with `StoreUnavailable` may have happened all the same.
    """

    def __init__(self) -> None:
        self._started = False
        self._answering = True

    async def start(self) -> None:
        """Bring the schema up to date; raise `StoreUnusable` if that cannot be done.

        While the database is away nothing is done: `keep_starting` will.
        """
        try:
            await self._in_time(self._migrate(), MIGRATION_S)
        except StoreUnavailable:
            return
        self._started = True

    async def keep_starting(self) -> None:
        """Start as soon as the database is there and can be used."""
        said = None
        while not self._started:
            await asyncio.sleep(_BETWEEN_STARTS_S)
            try:
                await self.start()
            except StoreUnusable as exc:
                if exc.message != said:
                    said = exc.message
                    log.error("store_unusable", error=said)

    async def version(self) -> int:
        """The schema's version, 0 if there is none yet; raise `StoreUnavailable`."""
        return await self._in_time(self._version(), DEADLINE_S)

    async def read(self, text: str, *values: str | int | None) -> Sequence[Row]:
        """The rows of one statement; raise `StoreUnavailable`."""
        self._require_start()
        return await self._in_time(self._read(text, values), DEADLINE_S)

    async def write(self, *statements: Statement) -> Sequence[Sequence[Row]]:
        """The rows of each statement, all of which happen or none does.

        Raises `Duplicate` and `StoreUnavailable`.
        """
        self._require_start()
        return await self._in_time(self._write(statements), DEADLINE_S)

    def _require_start(self) -> None:
        if not self._started:
            raise StoreUnavailable

    async def _in_time(self, call: Awaitable[T], deadline_s: float) -> T:
        try:
            async with asyncio.timeout(deadline_s):
                answer = await call
        except TimeoutError as exc:
            raise self._unavailable(f"no answer within {deadline_s:g} s") from exc
        except Outage as exc:
            raise self._unavailable(str(exc)) from exc
        if not self._answering:
            self._answering = True
            log.info("store_available")
        return answer

    def _unavailable(self, why: str) -> StoreUnavailable:
        if self._answering:
            self._answering = False
            log.error("store_unavailable", error=why)
        return StoreUnavailable()

    @abstractmethod
    async def _migrate(self) -> None:
        """Take the steps that are missing, one process at a time; raise `StoreUnusable`."""

    @abstractmethod
    async def _version(self) -> int:
        """As `version`; raise `Outage`."""

    @abstractmethod
    async def _read(self, text: str, values: Sequence[str | int | None]) -> Sequence[Row]:
        """As `read`; raise `Outage`."""

    @abstractmethod
    async def _write(self, batch: Sequence[Statement]) -> Sequence[Sequence[Row]]:
        """As `write`; raise `Duplicate` and `Outage`."""
