"""Dari's session workspaces as one zip file (`api.md` section 4)."""

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
    PathNotFound,
    WorkspaceGone,
)
from gateway.domain.model import Principal
from gateway.http.archives import archive_wanted, send_archive
from gateway.http.dialects.base import (
    Dialect,
    Route,
    directories,
    mounted_directory,
    session_id_parameter,
)
from gateway.http.queries import Query
from gateway.service.archives import Archives

_ROOT = b"/workspace"


class Dari(Dialect):
    """Tells foreign sessions from missing ones, and says every error twice."""

    name: ClassVar[str] = "dari"
    statuses: ClassVar[Mapping[type[GatewayError], int]] = {
        BadSessionId: 404,
        ForeignSession: 403,
        PathNotFound: 400,
        WorkspaceGone: 409,
    }

    def __init__(self, archives: Archives) -> None:
        self._archives = archives

    def routes(self) -> Sequence[Route]:
        """The zip file."""
        return (
            Route(
                "/v1/sessions/{session_id}/workspace.zip",
                "/v1/sessions/{session_id:[^/]+}/workspace.zip",
                self.download,
            ),
        )

    async def download(self, request: web.Request, principal: Principal) -> web.StreamResponse:
        """`GET …/workspace.zip`: the workspace, or the directories that `path` names."""
        session_id = session_id_parameter(request)
        paths = directories(Query(request), partial(mounted_directory, _ROOT))
        packing = Packing(Format.ZIP, apart(paths))
        name = f"workspace-{session_id}.zip"
        async with self._archives.open(
            principal, session_id, packing, archive_wanted(request)
        ) as archive:
            return await send_archive(request, archive, packing, name, sized=False)

    def message(self, error: GatewayError) -> str:
        """In Dari's terms."""
        match error:
            case ForeignSession():
                return "the session belongs to another organization"
            case WorkspaceGone():
                return "the session has no workspace yet; run it first, then retry"
            case _:
                return super().message(error)

    def error_body(self, message: str) -> bytes:
        """The native one's text once more, where Dari's clients look for it."""
        return orjson.dumps({"error": message, "detail": message})
