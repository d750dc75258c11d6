"""The ledger of what happens to sessions: what is written into it, and in which words."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

import orjson
import structlog

from gateway.domain.errors import GatewayError
from gateway.domain.model import SessionId
from gateway.store.base import Events
from gateway.system.background import Background

log = structlog.get_logger()

_WRITTEN_EVERY_S = 1.0
_LAST_WRITES_S = 5.0
_LEFT_ALONE = 4  # times as long as it has taken, the store is left to others
_MOST_SESSIONS = 1000  # whose downloads are remembered until they are written
_MOST_DOWNLOADS = 20  # of one session that one event tells

MOST_BYTES = 16 * 1024
"""Of what one event tells: names are their makers', and ledgers are kept and sent again."""


class Happened(StrEnum):
    """The kinds of events, as clients know them."""

    SESSION_CREATED = "session.created"
    STATUS_CHANGED = "session.status_changed"
    WORKSPACE_AVAILABLE = "workspace.available"
    WORKSPACE_CHANGED = "workspace.changed"
    WORKSPACE_DOWNLOADED = "workspace.downloaded"


@dataclass(slots=True)
class _Downloads:
    told: list[Mapping[str, object]] = field(default_factory=list)
    size: int = 0
    more: int = 0

    def add(self, download: Mapping[str, object]) -> None:
        if len(self.told) < _MOST_DOWNLOADS:
            size = self.size + len(orjson.dumps(download))
            if size <= MOST_BYTES:
                self.told.append(download)
                self.size = size
                return
        self.more += 1


class Ledger:
    """Writes events. Made by `running`, without which no downloads are written."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._noted: dict[SessionId, _Downloads] = {}
        self._forgotten = 0
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def running(cls, events: Events, background: Background) -> AsyncIterator[Self]:
        """Start; leaving writes what has been noted so far."""
        ledger = cls(events)
        writing = asyncio.create_task(background.keep("ledger.downloads", ledger._write))
        try:
            yield ledger
        finally:
            ledger._ending.set()
            try:
                await asyncio.wait_for(writing, _LAST_WRITES_S)
            except TimeoutError:
                log.warning("downloads_not_in_ledger", hint="the store took too long at the end")

    async def append(
        self, session_id: SessionId, kind: Happened, data: Mapping[str, object]
    ) -> None:
        """Write an event; raise `StoreUnavailable`."""
        await self._events.append(session_id, kind, data)

    def note_download(self, session_id: SessionId, download: Mapping[str, object]) -> None:
        """Remember a download; it is written soon, together with others of the session.

        The one who downloads never waits for the store: while that cannot keep up, or does not
        answer, downloads are missing in the ledger.
        """
        if session_id not in self._noted and len(self._noted) >= _MOST_SESSIONS:
            self._forgotten += 1
            return
        self._noted.setdefault(session_id, _Downloads()).add(download)

    async def _write(self) -> None:
        while not self._ending.is_set():
            await self._rest(_WRITTEN_EVERY_S)
            await self._write_noted()
        await self._write_noted()  # what was noted during the last one

    async def _write_noted(self) -> None:
        noted, self._noted = self._noted, {}
        forgotten, self._forgotten = self._forgotten, 0
        for session_id, found in noted.items():
            data: dict[str, object] = {"downloads": found.told}
            if found.more:
                data["more"] = found.more
            began = self._loop.time()
            try:
                await self.append(session_id, Happened.WORKSPACE_DOWNLOADED, data)
            except GatewayError:
                forgotten += len(found.told) + found.more
            # A database writes one thing after the other, and others wait for theirs.
            await self._rest(_LEFT_ALONE * (self._loop.time() - began))
        if forgotten:
            log.warning("downloads_not_in_ledger", count=forgotten)

    async def _rest(self, seconds: float) -> None:
        """Wait that long, but not once it is to end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ending.wait()
