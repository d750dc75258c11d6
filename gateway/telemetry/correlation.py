"""What ties together everything that is done for one request: its id, and the caller's trace."""

from contextvars import ContextVar

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
TRACEPARENT: ContextVar[str | None] = ContextVar("traceparent", default=None)
