"""Follow what happens to a session, for whoever may."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.domain.model import Principal, Scope, SessionId
from gateway.domain.paths import WorkspacePath
from gateway.domain.records import Event
from gateway.service.changes import Changes
from gateway.service.sessions import Sessions, Workspace
from gateway.store.base import Events


class Following:
    """The use case around a session's ledger."""

    def __init__(self, sessions: Sessions, events: Events, changes: Changes) -> None:
        self._sessions = sessions
        self._events = events
        self._changes = changes

    async def workspace(self, principal: Principal, reference: SessionId) -> Workspace:
        """The session that *principal* may follow; raise what `Sessions.workspace` raises."""
        return await self._sessions.workspace(principal, reference, Scope.SESSIONS_READ)

    @asynccontextmanager
    async def events(
        self, principal: Principal, reference: SessionId, after: int
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """Yield the events behind *after*, then new ones as they come.

        Entering raises what `Sessions.workspace` raises, and for a session that nobody registered
        the verdicts of its executor.
        """
        workspace = await self.workspace(principal, reference)
        if workspace.session is None:
            there = workspace.executor.walk(workspace.reference, WorkspacePath.ROOT, depth=1)
            async with there:
                pass
        async with self._changes.watched(workspace):
            yield self._events.follow(workspace.session_id, after)
