"""The ledgers of events in a database, and how readers in all processes hear of new ones."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import orjson

from gateway.domain.errors import BadParameter, StoreUnavailable
from gateway.domain.model import SessionId
from gateway.domain.records import Event
from gateway.store.base import Events
from gateway.store.database import Database, Row, Statement
from gateway.store.values import checked, checked_names, datetime_of, is_storable, moment

KEPT = 1000
"""Events of one session; the oldest make room."""

_POLL_S = 0.25
_AT_ONCE = 16  # of up to some 16 KiB each, held for a reader
_COUNT = """
INSERT INTO ledgers (session_id, last_event) VALUES ($1, 1)
ON CONFLICT (session_id) DO UPDATE SET last_event = ledgers.last_event + 1"""
_INSERT = """
INSERT INTO events (session_id, id, kind, data, created_at)
SELECT session_id, last_event, $2, $3, $4 FROM ledgers WHERE session_id = $1 RETURNING id"""
_PRUNE = f"""
DELETE FROM events WHERE session_id = $1
AND id <= (SELECT last_event FROM ledgers WHERE session_id = $1) - {KEPT}"""
_AFTER = """
SELECT session_id, id, kind, data, created_at FROM events
WHERE session_id = $1 AND id > $2 ORDER BY id LIMIT $3"""
_ASKED_FOR = 20  # always as many, so that it is always the same statement
_NEWEST = f"""
SELECT session_id, last_event FROM ledgers
WHERE session_id IN ({", ".join(f"${number + 1}" for number in range(_ASKED_FOR))})"""


@dataclass(eq=False, slots=True)
class _Reader:
    """Somebody who waits for events behind *seen*."""

    session_id: SessionId
    seen: int
    ring: asyncio.Event = field(default_factory=asyncio.Event)


class SqlEvents(Events):
    """As `Events`, by statements.

    One question per process and moment tells for all readers which ledgers have grown: simpler than
    the notifications that only PostgreSQL has, and the same through poolers that have none.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._readers: dict[SessionId, set[_Reader]] = {}
        self._somebody = asyncio.Event()

    async def append(self, session_id: SessionId, kind: str, data: Mapping[str, object]) -> Event:
        checked_names(session_id=session_id)
        checked(kind=kind)
        at, text = moment(datetime.now(UTC)), _text(data)
        statements: list[Statement] = [
            (_COUNT, (session_id,)),
            (_INSERT, (session_id, kind, text, at)),
            (_PRUNE, (session_id,)),
        ]
        _, ((event_id,),), _ = await self._database.write(*statements)
        self._ring({session_id: event_id})
        return Event(session_id, event_id, kind, text, datetime_of(at))

    async def after(self, session_id: SessionId, event_id: int, limit: int) -> Sequence[Event]:
        if not is_storable(session_id):
            return ()
        return [
            _event(row) for row in await self._database.read(_AFTER, session_id, event_id, limit)
        ]

    async def follow(self, session_id: SessionId, event_id: int) -> AsyncIterator[Event]:
        with self._reading(_Reader(session_id, event_id)) as reader:
            while True:
                reader.ring.clear()
                try:
                    found = await self.after(session_id, reader.seen, _AT_ONCE)
                except StoreUnavailable:
                    await asyncio.sleep(_POLL_S)
                    continue
                for event in found:
                    yield event
                    reader.seen = event.id
                if not found:
                    await reader.ring.wait()

    async def keep_listening(self) -> None:
        """Tell the readers of this process what other processes have written."""
        while True:
            await self._somebody.wait()
            sessions = list(self._readers)
            try:
                for start in range(0, len(sessions), _ASKED_FOR):
                    self._ring(await self._newest(sessions[start : start + _ASKED_FOR]))
            except StoreUnavailable:
                pass  # asked again below; the readers wait
            await asyncio.sleep(_POLL_S)

    async def _newest(self, sessions: Sequence[SessionId]) -> Mapping[SessionId, int]:
        padding = [""] * (_ASKED_FOR - len(sessions))
        rows = await self._database.read(_NEWEST, *sessions, *padding)
        return {row[0]: row[1] for row in rows}

    def _ring(self, newest: Mapping[SessionId, int]) -> None:
        for session_id, last_event in newest.items():
            for reader in self._readers.get(session_id, ()):
                if last_event > reader.seen:
                    reader.ring.set()

    @contextmanager
    def _reading(self, reader: _Reader) -> Iterator[_Reader]:
        readers = self._readers.setdefault(reader.session_id, set())
        readers.add(reader)
        self._somebody.set()
        try:
            yield reader
        finally:
            readers.discard(reader)
            if not readers:
                self._readers.pop(reader.session_id, None)
            if not self._readers:
                self._somebody.clear()


def _text(data: Mapping[str, object]) -> str:
    try:
        return orjson.dumps(data).decode()
    except TypeError as exc:
        raise BadParameter(f"data: {exc}") from exc


def _event(row: Row) -> Event:
    session_id, id_, kind, data, created_at = row
    return Event(session_id, id_, kind, data, datetime_of(created_at))
