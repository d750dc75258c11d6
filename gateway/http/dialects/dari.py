"""Dari's sessions, and their workspaces as one zip file each (`api.md` section 4)."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar

import orjson
from aiohttp import web

from gateway.domain.archives import Format, Packing, apart
from gateway.domain.errors import (
    BadSessionId,
    ForeignSession,
    GatewayError,
    NoWorkspace,
    PathNotFound,
)
from gateway.domain.model import Principal, Scope
from gateway.domain.records import SessionPage
from gateway.http.answers import Answer, Response
from gateway.http.archives import archive_wanted, send_archive
from gateway.http.authn import GATE
from gateway.http.bodies import json_object
from gateway.http.context import EXCHANGE, VARIABLES
from gateway.http.dialects.base import (
    Dialect,
    Route,
    directories,
    mounted_directory,
    session_id_parameter,
)
from gateway.http.dialects.dari_session import new_session, session_object
from gateway.http.errors import JSON
from gateway.http.event_stream import last_event_id, send_events
from gateway.http.queries import Query
from gateway.service.archives import Archives
from gateway.service.following import Following
from gateway.service.provisioning import Provisioning
from gateway.service.sessions import Sessions

_ROOT = b"/workspace"
_PAGE = 50
_LONGEST_PAGE = 200
_OF_AGENT = "/v1/agents/{agent_id}/sessions", "/v1/agents/{agent_id:[^/]+}/sessions"


class Dari(Dialect):
    """Tells foreign sessions from missing ones, and says every error twice."""

    name: ClassVar[str] = "dari"
    statuses: ClassVar[Mapping[type[GatewayError], int]] = {
        BadSessionId: 404,
        ForeignSession: 403,
        PathNotFound: 400,
        NoWorkspace: 409,
    }

    def __init__(
        self,
        archives: Archives,
        sessions: Sessions,
        provisioning: Provisioning,
        following: Following,
    ) -> None:
        self._archives = archives
        self._sessions = sessions
        self._provisioning = provisioning
        self._following = following

    def routes(self) -> Sequence[Route]:
        """Sessions, those of an agent, and the zip file."""
        return (
            Route("/v1/sessions", "/v1/sessions", self.list_all),
            Route("/v1/sessions/{session_id}", "/v1/sessions/{session_id:[^/]+}", self.show),
            Route(
                "/v1/sessions/{session_id}/workspace.zip",
                "/v1/sessions/{session_id:[^/]+}/workspace.zip",
                self.download,
            ),
            Route(
                "/v1/sessions/{session_id}/stream",
                "/v1/sessions/{session_id:[^/]+}/stream",
                self.stream,
            ),
            Route(*_OF_AGENT, self.list_of_agent),
            Route(*_OF_AGENT, self.create, method="POST"),
        )

    async def create(self, request: web.BaseRequest, principal: Principal) -> Response:
        """`POST …/agents/{agent_id}/sessions`: a new session, and its workspace."""
        agent_id = request[VARIABLES]["agent_id"]
        self._provisioning.require(principal, agent_id, Scope.SESSIONS_WRITE)
        wanted = new_session(await json_object(request))
        session = await self._provisioning.create(principal, agent_id, wanted)
        request[EXCHANGE].session_id = session.id
        return _json(session_object(session), status=201)

    async def show(self, request: web.BaseRequest, principal: Principal) -> Response:
        """`GET …/sessions/{session_id}`: what is known of a session."""
        session = await self._sessions.registered(principal, session_id_parameter(request))
        return _json(session_object(session))

    async def list_all(self, request: web.BaseRequest, principal: Principal) -> Response:
        """`GET …/sessions`: the caller's organisation's, newest first."""
        return _json(_page(await self._listed(request, principal, None)))

    async def list_of_agent(self, request: web.BaseRequest, principal: Principal) -> Response:
        """`GET …/agents/{agent_id}/sessions`: the same of one agent."""
        agent_id = request[VARIABLES]["agent_id"]
        self._provisioning.require(principal, agent_id, Scope.SESSIONS_READ)
        return _json(_page(await self._listed(request, principal, agent_id)))

    async def download(self, request: web.BaseRequest, principal: Principal) -> Response:
        """`GET …/workspace.zip`: the workspace, or the directories that `path` names."""
        session_id = session_id_parameter(request)
        paths = directories(Query.of(request), partial(mounted_directory, _ROOT))
        packing = Packing(Format.ZIP, apart(paths))
        name = f"workspace-{session_id}.zip"
        async with self._archives.open(
            principal, session_id, packing, archive_wanted(request)
        ) as archive:
            return await send_archive(request, archive, packing, name, sized=False)

    async def stream(self, request: web.BaseRequest, principal: Principal) -> Response:
        """`GET …/stream`: the session's events, those behind `Last-Event-ID` first."""
        session_id, after = session_id_parameter(request), last_event_id(request)
        async with self._following.events(principal, session_id, after) as followed:

            async def still_may() -> None:
                await followed.still_may(await request[GATE].identify(request))

            return await send_events(request, principal, followed.events, still_may)

    def message(self, error: GatewayError) -> str:
        """In Dari's terms."""
        match error:
            case ForeignSession():
                return "the session belongs to another organization"
            case NoWorkspace():
                return "the session has no workspace yet; run it first, then retry"
            case _:
                return super().message(error)

    def error_body(self, message: str) -> bytes:
        """The native one's text once more, where Dari's clients look for it."""
        return orjson.dumps({"error": message, "detail": message})

    async def _listed(
        self, request: web.BaseRequest, principal: Principal, agent_id: str | None
    ) -> SessionPage:
        query = Query.of(request)
        return await self._sessions.page(
            principal,
            limit=query.number("limit", 1, _LONGEST_PAGE) or _PAGE,
            cursor=query.text("cursor"),
            metadata=query.below("metadata."),
            agent_id=agent_id,
        )


def _page(page: SessionPage) -> dict[str, object]:
    return {
        "sessions": [session_object(session) for session in page.sessions],
        "next_cursor": page.next_cursor,
    }


def _json(value: dict[str, object], status: int = 200) -> Answer:
    return Answer(status, orjson.dumps(value), {"Content-Type": JSON})
