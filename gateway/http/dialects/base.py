"""What a dialect is: routes, and how its errors look."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import unquote_to_bytes

from aiohttp import web

from gateway.domain.errors import BadParameter, GatewayError, PathRefused
from gateway.domain.model import Principal, SessionId, parse_session_id
from gateway.domain.paths import WorkspacePath
from gateway.http.answers import Response
from gateway.http.context import EXCHANGE, VARIABLES
from gateway.http.errors import error_body
from gateway.http.queries import Query

MOST_PATHS = 100

Handler = Callable[[web.BaseRequest, Principal], Awaitable[Response]]
Identify = Callable[[web.BaseRequest], Awaitable[Principal]]


@dataclass(frozen=True, slots=True)
class Route:
    """A route that only an authenticated caller reaches; HEAD comes with GET.

    *template* is what the router matches, *name* what logs and metrics call it. *identify* tells
    the caller by something else than a key or token.
    """

    name: str
    template: str
    handler: Handler
    method: str = "GET"
    identify: Identify | None = None

    @property
    def methods(self) -> Sequence[str]:
        """What it answers."""
        return ("GET", "HEAD") if self.method == "GET" else (self.method,)


class Dialect:
    """The native error format; a published dialect overrides what it does otherwise."""

    name: ClassVar[str] = "native"
    statuses: ClassVar[Mapping[type[GatewayError], int]] = {}

    def routes(self) -> Sequence[Route]:
        """The dialect's routes."""
        return ()

    def message(self, error: GatewayError) -> str:
        """What the client is told of *error*."""
        return error.message

    def error_body(self, message: str) -> bytes:
        """The body of an error answer."""
        return error_body(message)


NATIVE = Dialect()


def session_id_parameter(request: web.BaseRequest) -> SessionId:
    """The route's `{session_id}`; raise `BadSessionId` if it is none."""
    session_id = parse_session_id(request[VARIABLES]["session_id"])
    request[EXCHANGE].session_id = session_id
    return session_id


def path_parameter(request: web.BaseRequest) -> WorkspacePath:
    """The file that the raw target names behind `/api/v1/sessions/{session_id}/files/`.

    It is taken from the raw target because the router's decoding loses bytes that are not UTF-8.
    Raise `PathRefused`.
    """
    return file_path(unquote_to_bytes(request.rel_url.raw_path.split("/", 6)[6]))


def file_path(raw: bytes) -> WorkspacePath:
    """The path of a file; raise `PathRefused`, for a directory's path (`d/`, `d/.`) too."""
    path = WorkspacePath.parse(raw)
    if raw.endswith((b"/", b"/.")) or not path.parts:
        raise PathRefused("invalid path: a file's path is needed")
    return path


def directories(query: Query, parse: Callable[[bytes], WorkspacePath]) -> list[WorkspacePath]:
    """Every `path` of *query*; raise `BadParameter` for too many and what *parse* raises."""
    raws = query.raws("path")
    if len(raws) > MOST_PATHS:
        raise BadParameter(f"path: given more than {MOST_PATHS} times")
    return [parse(raw) for raw in raws]


def rooted_directory(raw: bytes) -> WorkspacePath:
    """A directory relative to the workspace, or `/`; raise `PathRefused`."""
    return WorkspacePath.ROOT if raw == b"/" else WorkspacePath.parse(raw)


def mounted_directory(root: bytes, raw: bytes) -> WorkspacePath:
    """The same for a sandbox that has its workspace at *root*: `/root/a` is `a`."""
    below = raw.removeprefix(root)
    if below != raw and below[:1] in (b"", b"/"):
        return WorkspacePath.parse(below.lstrip(b"/"))
    return WorkspacePath.parse(raw)
