"""Client connections: how long each may take, and how all of them end without losing an answer."""

import asyncio
import socket
import struct
from dataclasses import dataclass
from typing import Any, cast

import structlog
from aiohttp import web

from gateway.http.answers import Answer, Response
from gateway.http.context import EXCHANGE, UNMATCHED
from gateway.http.errors import error_body, error_response
from gateway.http.pace import untaken
from gateway.telemetry import metrics

log = structlog.get_logger()

_LAST_HEAD_S = 1.0  # for a head that is under way when the gateway ends


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a connection may be without a whole head, without a request, without a reader."""

    header_s: float
    keepalive_s: float
    idle_s: float


class Connection(web.RequestHandler):
    """aiohttp's protocol with what it cannot be told.

    A connection that has not sent a complete request head *header_s* seconds after it was opened,
    or after the first byte of the next head, is closed: aiohttp's own limit is the keep-alive
    timeout, which a proxy needs to be long. (That one still holds for a head that begins while the
    request before it is being answered.) A reader that does not take the rest of an answer whose
    handler is done is cut off; aiohttp waits for it for ever. And aiohttp logs and echoes the bytes
    of a malformed head, in which a key may stand.
    """

    __slots__ = ("_finishing", "_head_deadline", "_stalled", "_timeouts", "_wire", "is_aborted")

    def __init__(self, manager: web.Server, *, timeouts: Timeouts, **kwargs: Any) -> None:
        super().__init__(
            manager,
            keepalive_timeout=timeouts.keepalive_s,
            lingering_time=timeouts.header_s,  # for a body that nobody asked for
            **kwargs,
        )
        self._timeouts = timeouts
        self._head_deadline: asyncio.TimerHandle | None = None
        self._finishing = False
        self.is_aborted = False
        # aiohttp forgets its transport when it starts to close; bytes may still be waiting in it.
        self._wire: asyncio.Transport | None = None
        self._stalled = (0, 0.0)  # so many bytes are left to send, since when

    @property
    def header_s(self) -> float:
        """How long a client may take for the head of a request."""
        return self._timeouts.header_s

    @property
    def finishing(self) -> bool:
        """Whether the request that is being answered is the last."""
        return self._finishing

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start waiting for the first head."""
        super().connection_made(transport)
        self._wire = cast(asyncio.Transport, transport)
        self._await_head(self._timeouts.header_s)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        self._wire = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; an incomplete head starts the clock, a complete one stops it."""
        heads = self._request_count
        super().data_received(data)
        if self._request_count > heads:
            self._stop_waiting()
            self._close |= self._finishing
        elif self._head_deadline is None and self._current_request is None:
            self._await_head(self._timeouts.header_s)

    def finish(self) -> None:
        """Answer what has been asked, is being asked, or is about to be by a new client; close."""
        self._finishing = True
        if self._head_deadline is not None:
            self._stop_waiting()
            self._await_head(min(_LAST_HEAD_S, self._timeouts.header_s))
        elif self._waiter is not None and not self._waiter.done():
            self.force_close()
        else:
            self._close = True

    def abort(self) -> None:
        """End so that no client, HTTP/1.0 included, can take it for a clean end."""
        self.is_aborted = True
        if self._wire is None:
            return
        sock = self._wire.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._wire.abort()

    def cut_off_stalled(self) -> None:
        """Abort if the reader has taken nothing of a finished answer for *idle_s* seconds.

        Called every now and then. While a handler runs, its `Pace` watches the reader.
        """
        if self._wire is None or self._current_request is not None:
            return
        buffered, now = self._wire.get_write_buffer_size(), self._loop.time()
        left = buffered and untaken(self._wire)
        if left != self._stalled[0]:
            self._stalled = (left, now)
        elif left and now - self._stalled[1] >= self._timeouts.idle_s:
            self.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what could not be parsed, or went wrong around `boundary`, in the error format.

        Nothing is told of what it was: not to the client, and not in the log.
        """
        if request.writer.output_size > 0 or isinstance(exc, ConnectionError):
            raise ConnectionError("the connection is of no more use") from exc
        exchange, kind = request[EXCHANGE], type(exc).__name__
        if status == 400:
            log.info("request_malformed", error=kind, request_id=exchange.request_id)
            answer = error_response(400, error_body("malformed request"))
        else:
            log.error("request_failed", error=kind, request_id=exchange.request_id)
            answer = error_response(500, error_body("internal error"))
        metrics.REQUESTS.labels(UNMATCHED, "other", answer.status).inc()
        answer.keep_alive = False
        return cast(web.StreamResponse, answer)

    async def finish_response(
        self, request: web.BaseRequest, resp: Response, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send *resp*; return it, and whether the client has gone."""
        if not isinstance(resp, Answer):
            return await super().finish_response(request, resp, start_time)
        sent, transport = cast(web.StreamResponse, resp), self.transport
        if transport is None or transport.is_closing():
            return sent, True
        transport.write(resp.written(request, is_last=is_last(request)))
        if self.writing_paused:
            try:
                await request.writer.drain()
            except ConnectionError:
                return sent, True
        return sent, False

    def _await_head(self, timeout_s: float) -> None:
        self._head_deadline = self._loop.call_later(timeout_s, self._head_missed)

    def _stop_waiting(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def _head_missed(self) -> None:
        self._head_deadline = None
        if self._waiter is not None and not self._waiter.done():
            self.force_close()


def is_last(request: web.BaseRequest) -> bool:
    """Whether the connection ends with the answer to *request*."""
    # aiohttp 3.14.5 loses what follows an unknown Upgrade in one segment: the next request might
    # be read from its middle on. What follows a CONNECT it takes for no request at all.
    return (
        cast(Connection, request.protocol).finishing
        or "Upgrade" in request.headers
        or request.method == "CONNECT"
    )
