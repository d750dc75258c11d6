"""Which sessions there are, whose they are, and where their workspaces lie."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from time import monotonic
from typing import Final, NamedTuple, TypeVar

from gateway.domain.errors import (
    GatewayError,
    NoWorkspace,
    Outage,
    SessionNotFound,
    WorkspaceGone,
)
from gateway.domain.model import Principal, Scope, SessionId
from gateway.domain.records import Session, SessionPage
from gateway.executors.base import Executor
from gateway.service.access import authorize
from gateway.service.events import Happened
from gateway.service.placement import Placement
from gateway.store.base import Store

PROVISIONING: Final = "provisioning"  # its executor is making the workspace
WAITING: Final = "waiting"  # for somebody else to make it
FAILED: Final = "failed"  # whoever was making it is gone
IDLE: Final = "idle"

_NOT_FOUND = "session not found"
_FRESH_S = 0.5
_MOST_DIRECTORIES = 4096

T = TypeVar("T")


class Workspace(NamedTuple):
    """Where a session's workspace is: *executor* calls it *reference*.

    *session* is None for one that nobody has registered: a directory, if there is one.
    """

    session_id: SessionId
    executor: Executor
    reference: str
    session: Session | None = None

    def missing(self) -> GatewayError:
        """What it means for the session that the executor does not have the workspace."""
        return NoWorkspace(_NOT_FOUND) if self.session else SessionNotFound(_NOT_FOUND)


class Sessions:
    """The sessions in *store*, if there is one, and unless *strict* every other that is asked for.

    A session in the store belongs to the organisation that registered it; what no session is or was
    called, nor its workspace, to whoever may read.
    """

    def __init__(
        self, placement: Placement, store: Store | None = None, *, strict: bool = False
    ) -> None:
        self._placement = placement
        self._store = store
        self._strict = strict
        self._directories: dict[tuple[str, str], float] = {}

    async def workspace(
        self, principal: Principal, reference: SessionId, scope: Scope
    ) -> Workspace:
        """Where the session with that id or external id has its workspace.

        Raises `ScopeMissing`, `SessionNotFound`, `ForeignSession`, `StoreUnavailable`.
        """
        session = None
        if self._store is not None:
            principal.require(scope)
            session = await self._found(self._store, reference, principal)
        if session is None:
            authorize(principal, reference, scope)
            return Workspace(reference, self._placement.executor_of(reference), reference)
        authorize(principal, session.id, scope, session.org)
        executor = self._placement.executor_of(session.id, session.executor)
        return Workspace(session.id, executor, session.workspace or session.id, session)

    async def _found(
        self, store: Store, reference: SessionId, principal: Principal
    ) -> Session | None:
        """The session, if there is one; that a directory is none is known for a moment.

        Raises `SessionNotFound` where only registered sessions exist, and for what a deleted one or
        anybody's workspace is called.
        """
        now, org = monotonic(), principal.org
        if now < self._directories.get((reference, org), now):
            return None
        session = await store.sessions.find(reference, org)
        if session is None and self._strict:
            raise SessionNotFound(_NOT_FOUND)
        # What the key's patterns forbid is refused all the same, whether there was one or not.
        if session is None and principal.may_see(reference):
            if await store.sessions.claimed(reference):
                raise SessionNotFound(_NOT_FOUND)
            if len(self._directories) >= _MOST_DIRECTORIES:
                self._directories.clear()
            self._directories[reference, org] = now + _FRESH_S
        return session

    async def registered(self, principal: Principal, reference: SessionId) -> Session:
        """The session with that id or external id; raises what `workspace` raises."""
        principal.require(Scope.SESSIONS_READ)
        session = None
        if self._store is not None:
            session = await self._store.sessions.find(reference, principal.org)
        if session is None:
            raise SessionNotFound(_NOT_FOUND)
        authorize(principal, session.id, Scope.SESSIONS_READ, session.org)
        return session

    async def page(
        self,
        principal: Principal,
        *,
        limit: int,
        cursor: str | None,
        metadata: Mapping[str, str],
        agent_id: str | None = None,
    ) -> SessionPage:
        """The newest sessions of the caller's organisation with all of *metadata*.

        There may be fewer than *limit* before the last page: the caller's key may not see some.
        Raises `BadParameter` for a cursor that no page gave.
        """
        principal.require(Scope.SESSIONS_READ)
        if self._store is None:
            return SessionPage((), None)
        page = await self._store.sessions.page(
            principal.org, limit=limit, cursor=cursor, agent_id=agent_id, metadata=metadata
        )
        visible = tuple(one for one in page.sessions if principal.may_see(one.id))
        return replace(page, sessions=visible)

    async def enter(self, workspace: Workspace, opening: AbstractAsyncContextManager[T]) -> T:
        """Enter *opening*, of something in *workspace*; it is for the caller to leave it.

        Raises the verdicts of the executor, with it as their source, and `NoWorkspace` for a
        registered session whose workspace it does not have. One that waited for its workspace, or
        was given up, has it now.
        """
        try:
            product = await opening.__aenter__()
        except (SessionNotFound, WorkspaceGone) as exc:
            raise workspace.missing() from exc
        except Outage:
            raise
        except GatewayError as exc:
            exc.source = exc.source or workspace.executor.name
            raise
        session = workspace.session
        if session is not None and session.status in (WAITING, FAILED):
            try:
                await self.move(session, replace(session, status=IDLE))
            except BaseException as exc:
                await opening.__aexit__(type(exc), exc, exc.__traceback__)
                raise
        return product

    async def move(self, before: Session, after: Session) -> None:
        """Write *after*, which differs in its status, unless somebody else was faster."""
        assert self._store is not None, "there would be no session"
        if not await self._store.sessions.update(before, after):
            return
        events = self._store.events
        await events.append(after.id, Happened.STATUS_CHANGED, {"status": after.status})
        if after.status == IDLE:
            await events.append(after.id, Happened.WORKSPACE_AVAILABLE, {})
