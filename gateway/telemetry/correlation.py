"""What ties together everything that is done for one request: its id, and the caller's trace."""

from contextvars import ContextVar

from structlog.typing import EventDict, WrappedLogger

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
TRACEPARENT: ContextVar[str | None] = ContextVar("traceparent", default=None)


def add_request_id(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Name the request in a log event (structlog processor)."""
    request_id = REQUEST_ID.get()
    if request_id is not None:
        event["request_id"] = request_id
    return event
