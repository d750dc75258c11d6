"""Links: made and revoked with a key, used without one (`api.md` section 6)."""

from collections.abc import Mapping, Sequence
from functools import partial

import orjson
from aiohttp import web

from gateway.domain.archives import Packing, apart
from gateway.domain.errors import BadParameter
from gateway.domain.model import Principal, Scope
from gateway.domain.paths import LONGEST_PATH, WorkspacePath
from gateway.http.answers import Answer, Response
from gateway.http.archives import archive_wanted, format_named, send_archive
from gateway.http.bodies import json_object
from gateway.http.context import EXCHANGE, VARIABLES
from gateway.http.dialects.base import (
    MOST_PATHS,
    Dialect,
    Route,
    file_path,
    rooted_directory,
    session_id_parameter,
)
from gateway.http.errors import JSON
from gateway.http.fields import boolean, check_names, number, optional, text, texts
from gateway.http.responses import send_file, wanted
from gateway.service.archives import Archives
from gateway.service.links import Grant, Links, Target
from gateway.service.selection import LONGEST_PATTERN, MOST, Selector
from gateway.service.workspaces import Workspaces

_FIELDS = frozenset({"path", "archive", "expires_in", "max_uses"})
_ARCHIVE_FIELDS = frozenset({"format", "path", "exclude", "gitignore", "stored", "manifest"})
_HOUR_S = 3600
_WEEK_S = 7 * 24 * _HOUR_S
_MOST_USES = 1_000_000

GRANT = web.RequestKey("grant", Grant)


class LinkRoutes(Dialect):
    """What links lead to is at *public_url*, where clients see the gateway; None: wherever that is.

    A `Host` header is never believed: whoever asks for a link could have it lead elsewhere.
    """

    def __init__(
        self,
        links: Links,
        workspaces: Workspaces,
        archives: Archives,
        public_url: str | None,
        *,
        has_zstd: bool,
    ) -> None:
        self._links = links
        self._workspaces = workspaces
        self._archives = archives
        self._base = public_url or ""
        self._has_zstd = has_zstd

    def routes(self) -> Sequence[Route]:
        """To make one, to revoke one, and what they lead to."""
        return (
            Route(
                "/api/v1/sessions/{session_id}/links",
                "/api/v1/sessions/{session_id:[^/]+}/links",
                self.make,
                method="POST",
            ),
            Route(
                "/api/v1/links/{link_id}",
                "/api/v1/links/{link_id:[^/]+}",
                self.revoke,
                method="DELETE",
            ),
            Route("/d/{ticket}", "/d/{ticket:[^/]+}", self.use, identify=self.identify),
        )

    async def make(self, request: web.BaseRequest, principal: Principal) -> Response:
        """`POST …/links`: a new link."""
        principal.require(Scope.LINKS_WRITE)
        session_id = session_id_parameter(request)
        body = await json_object(request)
        check_names(body, _FIELDS)
        made = await self._links.make(
            principal,
            session_id,
            self._target(body),
            optional(body, "expires_in", partial(number, least=1, most=_WEEK_S)) or _HOUR_S,
            optional(body, "max_uses", partial(number, least=1, most=_MOST_USES)),
        )
        answer = {
            "id": made.id,
            "url": f"{self._base}/d/{made.ticket}",
            "expires_at": f"{made.expires_at:%Y-%m-%dT%H:%M:%SZ}",
        }
        return Answer(201, orjson.dumps(answer), {"Content-Type": JSON})

    async def revoke(self, request: web.BaseRequest, principal: Principal) -> Response:
        """`DELETE …/links/{link_id}`: the link ends now."""
        await self._links.revoke(principal, request[VARIABLES]["link_id"])
        return Answer(204)

    async def identify(self, request: web.BaseRequest) -> Principal:
        """By whose permission the ticket is a good one; raise `LinkNotFound`."""
        grant = request[GRANT] = await self._links.find(request[VARIABLES]["ticket"])
        exchange = request[EXCHANGE]
        exchange.link_id, exchange.session_id = grant.link.id, grant.link.session_id
        return grant.principal

    async def use(self, request: web.BaseRequest, principal: Principal) -> Response:
        """`GET /d/{ticket}`: the file or the archive, as its own route answers.

        Every answer to a GET that carries bytes takes a use, also one of a part: whoever has the
        rest of a file has nearly all of it. HEAD, 304 and errors take none.
        """
        grant = request[GRANT]
        session_id, target = grant.link.session_id, grant.target
        if request.method == "GET":
            request[EXCHANGE].before_content = partial(self._links.take, grant)
        if isinstance(target, WorkspacePath):
            file = self._workspaces.open(principal, session_id, target, wanted(request))
            async with file as stream:
                return await send_file(request, stream)
        name = f"workspace-{session_id}.{target.format.value}"
        opening = self._archives.open(principal, session_id, target, archive_wanted(request))
        async with opening as archive:
            return await send_archive(request, archive, target, name, sized=False)

    def _target(self, body: Mapping[str, object]) -> Target:
        path, archive = body.get("path"), body.get("archive")
        if (path is None) == (archive is None):
            raise BadParameter("body: needs either path or archive")
        if path is not None:
            return file_path(text("path", path, LONGEST_PATH).encode())
        return self._packing({} if archive is True else archive)

    def _packing(self, archive: object) -> Packing:
        if not isinstance(archive, dict):
            raise BadParameter("archive: must be true or an object")
        check_names(archive, _ARCHIVE_FIELDS, "archive")
        paths = optional(archive, "path", partial(texts, most=MOST_PATHS, longest=LONGEST_PATH))
        exclude = optional(
            archive, "exclude", partial(texts, most=MOST.patterns, longest=LONGEST_PATTERN)
        )
        Selector.parse(None, exclude or ())  # so that a bad pattern is told to whoever wrote it
        stored = optional(archive, "stored", boolean) or False
        name = optional(archive, "format", partial(text, most=16))
        return Packing(
            format=format_named(name, stored=stored, has_zstd=self._has_zstd),
            paths=apart(rooted_directory(path.encode()) for path in paths or ()),
            exclude=tuple(exclude or ()),
            gitignore=optional(archive, "gitignore", boolean) or False,
            stored=stored,
            manifest=optional(archive, "manifest", boolean) or False,
        )
