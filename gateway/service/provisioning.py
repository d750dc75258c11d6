"""New sessions, and the workspaces that executors make for them."""

import asyncio
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import structlog

from gateway.config.dialects import Agent
from gateway.domain.errors import (
    AgentNotFound,
    ScopeMissing,
    StoreUnavailable,
    TimedOut,
    Unsupported,
)
from gateway.domain.model import Principal, Scope, SessionId
from gateway.domain.records import Session
from gateway.executors.base import Sandbox
from gateway.service.events import Happened
from gateway.service.placement import Placement
from gateway.service.sessions import FAILED, IDLE, PROVISIONING, WAITING, Sessions
from gateway.store.base import Store

audit, log = structlog.get_logger("audit"), structlog.get_logger()

_ALPHABET = string.ascii_letters + string.digits
_ID_LENGTH = 22  # log2(62 ** 22) = 130.99 random bits
_MAKING_S = 300.0
_GIVEN_UP_AFTER = timedelta(seconds=_MAKING_S + 60)  # clocks differ
_BETWEEN_LOOKS_S = 60.0
_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class NewSession:
    """What its creator says of a session; *internet_access* None: as its agent has it."""

    name: str | None = None
    storage_binding_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    internet_access: bool | None = None


def new_session_id() -> SessionId:
    """An id that nobody has, and nobody guesses."""
    return SessionId("sess_" + "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH)))


class Provisioning:
    """Makes sessions of *agents* in *store*, and workspaces."""

    def __init__(
        self,
        sessions: Sessions,
        placement: Placement,
        agents: Mapping[str, Agent],
        store: Store,
    ) -> None:
        self._sessions = sessions
        self._placement = placement
        self._agents = agents
        self._store = store

    def require(self, principal: Principal, agent_id: str, scope: Scope) -> None:
        """Raise `ScopeMissing`, or `AgentNotFound` if the config has no such agent."""
        principal.require(scope)
        if agent_id not in self._agents:
            raise AgentNotFound("agent not found")

    async def create(self, principal: Principal, agent_id: str, wanted: NewSession) -> Session:
        """Register a session and have its workspace made.

        Where nobody can make it the session waits for it. Raises what `require` and
        `Executor.provision` raise, and `StoreUnavailable`; then there is no session. It takes no
        longer than five minutes.
        """
        self.require(principal, agent_id, Scope.SESSIONS_WRITE)
        agent = self._agents[agent_id]
        session = _session(principal, agent_id, agent, wanted)
        if not principal.may_see(session.id):
            raise ScopeMissing("this key may use sessions of certain names only, not make new ones")
        declared = {n: v for n, v in wanted.secrets.items() if n in agent.sandbox.secrets}
        made = await self._provisioned(
            session, Sandbox(session.id, session.internet_access, declared)
        )
        audit.info(
            "audit.session_created",
            key_id=principal.key_id,
            org=principal.org,
            session_id=session.id,
            agent_id=agent_id,
            status=made.status,
        )
        return made

    async def keep_giving_up(self) -> None:
        """Let sessions fail whose workspace nobody makes any more, since that process was killed.

        Each has the time that `create` has, and a minute more.
        """
        while True:
            try:
                since = datetime.now(UTC) - _GIVEN_UP_AFTER
                for session in await self._store.sessions.left(PROVISIONING, since, _AT_ONCE):
                    log.warning("session_given_up", session_id=session.id, org=session.org)
                    await self._sessions.move(session, replace(session, status=FAILED))
            except StoreUnavailable:
                pass  # there is no hurry
            await asyncio.sleep(_BETWEEN_LOOKS_S)

    async def make(self, principal: Principal, reference: SessionId) -> None:
        """Make the workspace of a session, unless it is there.

        Raises what `Sessions.workspace` and `Executor.provision` raise.
        """
        workspace = await self._sessions.workspace(principal, reference, Scope.SESSIONS_WRITE)
        await workspace.executor.provision(Sandbox(workspace.session_id))

    async def _provisioned(self, session: Session, sandbox: Sandbox) -> Session:
        executor = self._placement.executor_of(session.id, session.executor)
        try:
            await self._store.sessions.create(session)
            await self._store.events.append(
                session.id, Happened.SESSION_CREATED, {"status": session.status}
            )
            try:
                async with asyncio.timeout(_MAKING_S):
                    workspace = await executor.provision(sandbox)
                made = replace(session, status=IDLE, workspace=workspace)
            except Unsupported:
                made = replace(session, status=WAITING)
            except TimeoutError as exc:
                raise TimedOut("the workspace was not made in time") from exc
            await self._sessions.move(session, made)
        except BaseException:
            # Its secrets are not kept, so that nobody could finish it.
            await asyncio.shield(self._store.sessions.delete(session.id))
            raise
        return made


def _session(principal: Principal, agent_id: str, agent: Agent, wanted: NewSession) -> Session:
    internet_access = wanted.internet_access
    if internet_access is None:
        internet_access = agent.sandbox.internet_access
    return Session(
        id=new_session_id(),
        org=principal.org,
        created_at=datetime.now(UTC),
        status=PROVISIONING,
        name=wanted.name,
        agent_id=agent_id,
        version_id=agent.version,
        storage_binding_id=wanted.storage_binding_id,
        internet_access=internet_access,
        metadata=wanted.metadata,
        executor=agent.executor,
    )
