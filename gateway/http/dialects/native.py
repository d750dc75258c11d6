"""What the gateway adds to the published APIs (`api.md` section 6)."""

from collections.abc import Sequence

from aiohttp import web

from gateway.domain.archives import Packing, apart
from gateway.domain.model import Principal
from gateway.http.answers import Answer, Response
from gateway.http.archives import archive_wanted, format_named, send_archive
from gateway.http.dialects.base import (
    Dialect,
    Route,
    directories,
    rooted_directory,
    session_id_parameter,
)
from gateway.http.queries import Query
from gateway.service.archives import Archives
from gateway.service.provisioning import Provisioning


class Native(Dialect):
    """Archives in any format, and workspaces to be made.

    *has_zstd*: whether there is a library for tar.zst.
    """

    def __init__(self, archives: Archives, provisioning: Provisioning, *, has_zstd: bool) -> None:
        self._archives = archives
        self._provisioning = provisioning
        self._has_zstd = has_zstd

    def routes(self) -> Sequence[Route]:
        """The archive, and the session itself."""
        return (
            Route(
                "/api/v1/sessions/{session_id}",
                "/api/v1/sessions/{session_id:[^/]+}",
                self.make,
                method="PUT",
            ),
            Route(
                "/api/v1/sessions/{session_id}/archive",
                "/api/v1/sessions/{session_id:[^/]+}/archive",
                self.archive,
            ),
        )

    async def make(self, request: web.BaseRequest, principal: Principal) -> Response:
        """`PUT …/{session_id}`: let there be a workspace."""
        await self._provisioning.make(principal, session_id_parameter(request))
        return Answer(204)

    async def archive(self, request: web.BaseRequest, principal: Principal) -> Response:
        """`GET …/archive`: the workspace, or directories of it."""
        session_id = session_id_parameter(request)
        packing = self._packing(Query.of(request))
        name = f"workspace-{session_id}.{packing.format.value}"
        async with self._archives.open(
            principal, session_id, packing, archive_wanted(request)
        ) as archive:
            return await send_archive(request, archive, packing, name, sized=False)

    def _packing(self, query: Query) -> Packing:
        stored = query.boolean("stored")
        form = format_named(query.text("format"), stored=stored, has_zstd=self._has_zstd)
        return Packing(
            format=form,
            paths=apart(directories(query, rooted_directory)),
            exclude=tuple(query.texts("exclude")),
            gitignore=query.boolean("gitignore"),
            stored=stored,
            manifest=query.boolean("manifest"),
        )
