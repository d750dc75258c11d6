"""Blackbox's download of a task's sandbox (`api.md` section 5)."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from aiohttp import web

from gateway.domain.archives import Format, Packing
from gateway.domain.errors import (
    ArchiveFailed,
    BadParameter,
    BadSessionId,
    ForeignSession,
    GatewayError,
    NoWorkspace,
    SessionNotFound,
)
from gateway.domain.model import Principal
from gateway.http.answers import Response
from gateway.http.archives import archive_wanted, send_archive
from gateway.http.dialects.base import Dialect, Route, mounted_directory, session_id_parameter
from gateway.http.queries import Query
from gateway.service.archives import Archives

_FORMATS = {"zip": Format.ZIP, "tar": Format.TAR_GZ}
_PREFIX = 8  # characters of a task's id in the name of its archive


class Blackbox(Dialect):
    """Tells the length of every archive; its sandboxes have their workspace at *root*."""

    name: ClassVar[str] = "blackbox"
    statuses: ClassVar[Mapping[type[GatewayError], int]] = {
        BadSessionId: 404,
        ForeignSession: 403,
    }

    def __init__(self, archives: Archives, root: str) -> None:
        self._archives = archives
        self._root = root.encode()

    def routes(self) -> Sequence[Route]:
        """The download."""
        return (
            Route(
                "/api/v1/tasks/{runId}/files/download",
                "/api/v1/tasks/{session_id:[^/]+}/files/download",
                self.download,
            ),
        )

    async def download(self, request: web.BaseRequest, principal: Principal) -> Response:
        """`GET …/files/download`: the workspace, or the directory `path`."""
        session_id = session_id_parameter(request)
        packing = self._packing(Query.of(request))
        name = f"workspace-{session_id[:_PREFIX]}.{packing.format.value}"
        async with self._archives.open(
            principal, session_id, packing, archive_wanted(request)
        ) as archive:
            return await send_archive(request, archive, packing, name, sized=True)

    def message(self, error: GatewayError) -> str:
        """In the words of Blackbox's documentation."""
        match error:
            case BadSessionId() | SessionNotFound() | NoWorkspace():
                return "No sandbox available for this task"
            case ForeignSession():
                return "Task belongs to a different user"
            case ArchiveFailed():
                return f"Failed to create archive: {error.message}"
            case _:
                return super().message(error)

    def _packing(self, query: Query) -> Packing:
        name = query.text("format")
        found = Format.ZIP if name is None else _FORMATS.get(name)
        if found is None:
            raise BadParameter("format: must be zip or tar")
        return Packing(found, (mounted_directory(self._root, query.raw("path") or b""),))
