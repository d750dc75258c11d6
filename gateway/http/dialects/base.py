"""What a dialect is: routes, and how its errors look."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import unquote_to_bytes

from aiohttp import web

from gateway.domain.errors import GatewayError, PathRefused
from gateway.domain.model import Principal, SessionId, parse_session_id
from gateway.domain.paths import WorkspacePath
from gateway.http.context import EXCHANGE
from gateway.http.errors import error_body

Handler = Callable[[web.Request, Principal], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One GET route (HEAD comes with it) that only an authenticated caller reaches.

    *template* is what the router matches, *name* what logs and metrics call it.
    """

    name: str
    template: str
    handler: Handler


class Dialect:
    """The native error format; a published dialect overrides what it does otherwise."""

    name: ClassVar[str] = "native"
    statuses: ClassVar[Mapping[type[GatewayError], int]] = {}

    def routes(self) -> Sequence[Route]:
        """The dialect's routes."""
        return ()

    def error_body(self, message: str) -> bytes:
        """The body of an error answer."""
        return error_body(message)


NATIVE = Dialect()


def session_id_parameter(request: web.Request) -> SessionId:
    """The route's `{session_id}`; raise `BadSessionId` if it is none."""
    session_id = parse_session_id(request.match_info["session_id"])
    request[EXCHANGE].session_id = session_id
    return session_id


def path_parameter(request: web.Request) -> WorkspacePath:
    """The file that the raw target names behind `/api/v1/sessions/{session_id}/files/`.

    It is taken from the raw target because the router's decoding loses bytes that are not UTF-8.
    Raise `PathRefused`, for a directory's path (`d/`, `d/.`) too.
    """
    raw = unquote_to_bytes(request.rel_url.raw_path.split("/", 6)[6])
    path = WorkspacePath.parse(raw)
    if raw.endswith((b"/", b"/.")) or not path.parts:
        raise PathRefused("invalid path: a file's path is needed")
    return path
