"""What is known about a request while it is served: for its log line, metrics and headers."""

import re
from collections.abc import Awaitable, Callable, Mapping
from random import getrandbits
from time import monotonic
from typing import Literal

from aiohttp import web
from multidict import MultiMapping

CLIENT_LEFT = 499  # nginx' code for a client that did not wait for an answer

UNMATCHED = "unmatched"
"""What logs and metrics call all paths that nothing stands at."""

Outcome = Literal["ok", "client_left", "broken", "refused", "error"]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Exchange:
    """One request and its answer, as the log line tells it; filled in on the way.

    *started_at* is `time.monotonic()`: the loop's own time stands still during a turn.
    *traceparent* is W3C Trace Context, if the caller sent a valid one.
    """

    # Defaults of the class: most requests leave most of them as they are.
    route = UNMATCHED
    dialect = ""
    status = CLIENT_LEFT
    first_byte_at: float | None = None
    bytes_sent = 0
    key_id: str | None = None
    org: str | None = None
    session_id: str | None = None
    executor: str | None = None
    fallback: str | None = None
    outcome: Outcome = "ok"
    archive: Mapping[str, str | int | None] | None = None  # what only an archive's line tells
    link_id: str | None = None
    before_content: Callable[[], Awaitable[None]] | None = None  # may still become an error

    def __init__(self, headers: MultiMapping[str]) -> None:
        self.started_at = monotonic()
        self.request_id = _request_id(headers)
        self.traceparent = _traceparent(headers)

    def served_by(self, source: str, fallback: str | None) -> dict[str, str]:
        """Note which executor's answer it is, and why not an earlier one's; return the headers."""
        self.executor = source
        if fallback is None:
            return {"X-Workspace-Source": source}
        self.fallback = fallback
        return {"X-Workspace-Source": source, "X-Workspace-Fallback": fallback}

    @property
    def trace_id(self) -> str | None:
        """The trace that the request is a part of."""
        return self.traceparent.split("-")[1] if self.traceparent else None


EXCHANGE = web.RequestKey("exchange", Exchange)
VARIABLES = web.RequestKey("variables", dict[str, str])
"""What the variables of the route's template stand for."""


def _request_id(headers: MultiMapping[str]) -> str:
    """The caller's `X-Request-ID` if it is one that may go into a log line, else a new one."""
    if "X-Request-ID" in headers:
        given = headers.getall("X-Request-ID")
        if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
            return given[0]
    return f"{getrandbits(128):032x}"  # has to be unique, not secret


def _traceparent(headers: MultiMapping[str]) -> str | None:
    """The caller's `traceparent` (W3C Trace Context), if it has that form."""
    given = headers.get("traceparent")
    return given if given is not None and _TRACEPARENT.fullmatch(given) else None
