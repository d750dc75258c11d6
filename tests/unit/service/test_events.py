"""The ledger's downloads are written beside the requests, and none is lost at the end."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime

import structlog.testing

from gateway.domain.model import SessionId, parse_session_id
from gateway.domain.records import Event
from gateway.service import events
from gateway.service.events import Ledger
from gateway.store.base import Events
from gateway.system.background import Background

SESSIONS = [parse_session_id(f"s{number}") for number in range(3)]


class Slow(Events):
    """Takes its time for each event; None: for ever."""

    def __init__(self, takes_s: float | None) -> None:
        self._takes_s = takes_s
        self.began = asyncio.Event()
        self.told: list[tuple[SessionId, object]] = []

    async def append(self, session_id: SessionId, kind: str, data: Mapping[str, object]) -> Event:
        self.began.set()
        if self._takes_s is None:
            await asyncio.Event().wait()
        else:
            await asyncio.sleep(self._takes_s)
        self.told.append((session_id, data["downloads"]))
        return Event(session_id, len(self.told), kind, "{}", datetime.now(UTC))

    async def after(self, session_id: SessionId, event_id: int, limit: int) -> Sequence[Event]:
        raise NotImplementedError

    def follow(self, session_id: SessionId, event_id: int) -> AsyncIterator[Event]:
        raise NotImplementedError


async def test_what_is_noted_while_others_are_written_is_written_at_the_end() -> None:
    store = Slow(0.3)
    async with Ledger.running(store, Background()) as ledger:
        for session in SESSIONS:
            ledger.note_download(session, {"path": "first"})
        await asyncio.wait_for(store.began.wait(), 10)
        ledger.note_download(SESSIONS[0], {"path": "last"})

    assert store.told == [
        *((session, [{"path": "first"}]) for session in SESSIONS),
        (SESSIONS[0], [{"path": "last"}]),
    ]


async def test_a_store_that_does_not_answer_at_the_end_is_told_of() -> None:
    with structlog.testing.capture_logs() as logs:
        async with asyncio.timeout(4 * events._LAST_WRITES_S):
            async with Ledger.running(Slow(None), Background()) as ledger:
                ledger.note_download(SESSIONS[0], {"path": "lost"})

    assert "downloads_not_in_ledger" in [line["event"] for line in logs]
