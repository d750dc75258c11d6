"""What is known about a request while it is served: for its log line, metrics and headers."""

import os
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from aiohttp import web

CLIENT_LEFT = 499  # nginx' code for a client that did not wait for an answer

Outcome = Literal["ok", "client_left", "broken", "refused", "error"]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(slots=True)
class Exchange:
    """One request and its answer, as the log line tells it; filled in on the way."""

    request_id: str
    traceparent: str | None  # W3C Trace Context, if the caller sent a valid one
    started_at: float  # time.monotonic(): the loop's own time stands still during a turn
    route: str
    dialect: str
    status: int = CLIENT_LEFT
    first_byte_at: float | None = None
    bytes_sent: int = 0
    key_id: str | None = None
    org: str | None = None
    session_id: str | None = None
    executor: str | None = None
    fallback: str | None = None
    outcome: Outcome = "ok"
    archive: Mapping[str, str | int | None] | None = None  # what only an archive's line tells
    link_id: str | None = None
    before_content: Callable[[], Awaitable[None]] | None = None  # may still become an error

    @property
    def trace_id(self) -> str | None:
        """The trace that the request is a part of."""
        return self.traceparent.split("-")[1] if self.traceparent else None


EXCHANGE = web.RequestKey("exchange", Exchange)


def request_id(request: web.BaseRequest) -> str:
    """The caller's `X-Request-ID` if it is one that may go into a log line, else a new one."""
    given = request.headers.getall("X-Request-ID", [])
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return given[0]
    return new_request_id()


def new_request_id() -> str:
    """An id for a request that brought none."""
    return os.urandom(16).hex()


def traceparent(request: web.BaseRequest) -> str | None:
    """The caller's `traceparent` (W3C Trace Context), if it has that form."""
    found = _TRACEPARENT.fullmatch(request.headers.get("traceparent", ""))
    return found[0] if found else None


def set_common_headers(response: web.StreamResponse, request_id: str) -> None:
    """Set the headers that every answer has."""
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Server"] = "workspace-gateway"
    response.headers["X-Request-ID"] = request_id
