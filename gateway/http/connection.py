"""One client connection: a deadline for request heads, and a plain answer to what is not HTTP."""

import asyncio
from typing import Any

import structlog
from aiohttp import web

from gateway.http.context import set_common_headers, request_id
from gateway.http.errors import error_body, error_response

log = structlog.get_logger()

# aiohttp refuses longer heads with 400. A path of 4095 bytes may be percent-encoded threefold, and
# a key of 8 KB has to be answered like any other wrong key.
_LONGEST_LINE = 16 * 1024


class Connection(web.RequestHandler):
    """aiohttp's protocol with the two things it cannot be told.

    A connection that has not sent a complete request head *header_timeout* seconds after it was
    opened, or after the first byte of the head, is closed: aiohttp's own limit is the keep-alive
    timeout, which a proxy needs to be long. And aiohttp logs and echoes the bytes of a malformed
    head, in which a key may stand.
    """

    __slots__ = ("_head_deadline", "_header_timeout")

    def __init__(self, manager: web.Server, *, header_timeout: float, **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self._header_timeout = header_timeout
        self._head_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start waiting for the first head."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; a head that is still incomplete starts the clock, a complete one stops it."""
        super().data_received(data)
        if self._waiter is None or self._waiter.done():
            self._stop_waiting()
        elif self._head_deadline is None:
            self._await_head()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what could not be parsed, in the error format, telling nothing of what it was."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun") from exc
        log.info("request_malformed", error=type(exc).__name__)
        response = error_response(400, error_body("malformed request"))
        set_common_headers(response, request_id(request))
        response.force_close()
        return response

    def _await_head(self) -> None:
        self._head_deadline = self._loop.call_later(self._header_timeout, self._head_missed)

    def _stop_waiting(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def _head_missed(self) -> None:
        self._head_deadline = None
        if self._waiter is not None and not self._waiter.done():
            self.force_close()


class ConnectionServer(web.Server):
    """Makes a `Connection` of every accepted socket."""

    def __init__(self, plain: web.Server, **kwargs: Any) -> None:
        super().__init__(
            plain.request_handler,
            request_factory=plain.request_factory,
            handler_cancellation=True,
            **kwargs,
        )

    def __call__(self) -> web.RequestHandler:
        """The protocol of one connection."""
        return Connection(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """Runs an application behind `Connection`s; *drain* seconds for what runs when it ends."""

    def __init__(
        self, app: web.Application, *, header_timeout: float, keepalive_timeout: float, drain: float
    ) -> None:
        super().__init__(app, access_log=None, shutdown_timeout=drain)
        self._connection_options: dict[str, Any] = {
            "header_timeout": header_timeout,
            "keepalive_timeout": keepalive_timeout,
            "access_log": None,
            "auto_decompress": False,
            "max_line_size": _LONGEST_LINE,
            "max_field_size": _LONGEST_LINE,
        }

    async def _make_server(self) -> web.Server:
        return ConnectionServer(await super()._make_server(), **self._connection_options)
