"""Follow what happens to a session, for whoever may."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gateway.domain.errors import SessionNotFound
from gateway.domain.model import Principal, Scope, SessionId
from gateway.domain.paths import WorkspacePath
from gateway.domain.records import Event
from gateway.service.changes import Changes
from gateway.service.sessions import Sessions, Workspace
from gateway.store.base import Events


@dataclass(frozen=True, slots=True)
class Followed:
    """A session's *events*, and a way to find out whether somebody may still have them.

    *still_may* raises what `Sessions.workspace` raises, and `SessionNotFound` once the session has
    been deleted, though what it was asked for by may be another one's name, or a directory's.
    """

    events: AsyncIterator[Event]
    still_may: Callable[[Principal], Awaitable[None]]


class Following:
    """The use case around a session's ledger."""

    def __init__(self, sessions: Sessions, events: Events, changes: Changes) -> None:
        self._sessions = sessions
        self._events = events
        self._changes = changes

    @asynccontextmanager
    async def events(
        self, principal: Principal, reference: SessionId, after: int
    ) -> AsyncIterator[Followed]:
        """Yield the events behind *after*, then new ones as they come.

        Entering raises what `Sessions.workspace` raises, and for a session that nobody registered
        the verdicts of its executor.
        """
        workspace = await self._workspace(principal, reference)
        if workspace.session is None:
            there = workspace.executor.walk(workspace.reference, WorkspacePath.ROOT, depth=1)
            async with there:
                pass

        async def still_may(caller: Principal) -> None:
            found = await self._workspace(caller, reference)
            if _registered(found) != _registered(workspace):
                raise SessionNotFound("session not found")

        async with self._changes.watched(workspace):
            yield Followed(self._events.follow(workspace.session_id, after), still_may)

    async def _workspace(self, principal: Principal, reference: SessionId) -> Workspace:
        return await self._sessions.workspace(principal, reference, Scope.SESSIONS_READ)


def _registered(workspace: Workspace) -> SessionId | None:
    return None if workspace.session is None else workspace.session.id
