"""Client connections: how long each may take, and how all of them end without losing an answer."""

import asyncio
import fcntl
import socket
import struct
import termios
from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import structlog
from aiohttp import web

from gateway.http.context import new_request_id, set_common_headers
from gateway.http.errors import error_body, error_response

log = structlog.get_logger()

# aiohttp refuses longer heads with 400. A path of 4095 bytes may be percent-encoded threefold, and
# a key of 8 KB has to be answered like any other wrong key.
_LONGEST_LINE = 16 * 1024
_INT = struct.Struct("i")
_LAST_HEAD_S = 1.0  # for a head that is under way when the gateway ends
_BREAKING_S = 2.0  # for handlers to notice that their connection is gone


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a connection may be without a whole head, without a request, without a reader."""

    header_s: float
    keepalive_s: float
    idle_s: float


class Connection(web.RequestHandler):
    """aiohttp's protocol with what it cannot be told.

    A connection that has not sent a complete request head *header_s* seconds after it was opened,
    or after the first byte of the head, is closed: aiohttp's own limit is the keep-alive timeout,
    which a proxy needs to be long. A reader that does not take the rest of an answer whose handler
    is done is cut off; aiohttp waits for it for ever. And aiohttp logs and echoes the bytes of a
    malformed head, in which a key may stand.
    """

    __slots__ = ("_finishing", "_head_deadline", "_stalled", "_timeouts", "_wire")

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
        # aiohttp forgets its transport when it starts to close; bytes may still be waiting in it.
        self._wire: asyncio.Transport | None = None
        self._stalled = (0, 0.0)  # so many bytes are left to send, since when

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
        super().data_received(data)
        if self._waiter is None or self._waiter.done():
            self._stop_waiting()
            self._close |= self._finishing
        elif self._head_deadline is None:
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
        left = buffered and buffered + _unacknowledged(self._wire)
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
        if status == 400:
            log.info("request_malformed", error=type(exc).__name__)
            response = error_response(400, error_body("malformed request"))
        else:
            log.error("request_failed", error=type(exc).__name__)
            response = error_response(500, error_body("internal error"))
        # aiohttp's stand-in for what it could not parse has no headers to take an id from.
        set_common_headers(response, new_request_id())
        response.force_close()
        return response

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """Send *resp*; what aiohttp raised before `boundary` ran gets the error format, too.

        That is 417: `Expect` is judged before any middleware runs, and aiohttp's text echoes it.
        """
        if isinstance(resp, web.HTTPException):
            resp = error_response(resp.status, error_body(resp.reason.lower()))
        return super().finish_response(request, resp, start_time)

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


def _unacknowledged(wire: asyncio.Transport) -> int:
    """How much the kernel still has for the client, which takes a slow reader's bytes singly.

    From the buffer above it megabytes move at once: a slow reader looks there as if it stood still.
    """
    sock = wire.get_extra_info("socket")
    try:
        queued: int = _INT.unpack(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(_INT.size)))[0]
    except (OSError, ValueError):  # closed meanwhile
        return 0
    return queued


class Crowd:
    """Connections that can be waited for to be gone."""

    def __init__(self) -> None:
        self._members: set[Connection] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    def __iter__(self) -> Iterator[Connection]:
        return iter(tuple(self._members))

    def __len__(self) -> int:
        return len(self._members)

    def add(self, member: Connection) -> None:
        """Let *member* in."""
        self._members.add(member)
        self._empty.clear()

    def discard(self, member: Connection) -> None:
        """Let *member* go."""
        self._members.discard(member)
        if not self._members:
            self._empty.set()

    def abort(self) -> None:
        """Break all of them now."""
        for connection in self:
            connection.abort()

    async def gone(self, within_s: float) -> bool:
        """Wait until nobody is left; return whether that came true in time."""
        try:
            async with asyncio.timeout(within_s):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True


class Hosted:
    """A started application, and the connections whose requests it is answering."""

    def __init__(self, server: web.Server) -> None:
        self._server = server
        self._busy = Crowd()

    @classmethod
    @asynccontextmanager
    async def running(cls, app: web.Application) -> AsyncIterator["Hosted"]:
        """Start *app*; what it is answering at the end should have been waited for (`finish`)."""
        app.on_response_prepare.append(_announce_close)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        assert runner.server is not None
        try:
            yield cls(runner.server)
        finally:
            await runner.cleanup()

    def request(self, *parts: Any) -> web.BaseRequest:
        """Make the request that a connection has received."""
        return self._server.request_factory(*parts)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Run the application's handler."""
        connection = cast(Connection, request.protocol)
        self._busy.add(connection)
        try:
            return await self._server.request_handler(request)
        finally:
            self._busy.discard(connection)

    async def finish(self, limit_s: float) -> None:
        """Wait until every request has been answered; break the connections that take longer."""
        if not await self._busy.gone(limit_s):
            self._busy.abort()
            await self._busy.gone(_BREAKING_S)


class ConnectionServer(web.Server):
    """Makes a `Connection` of every accepted socket.

    Each request goes to the application that is hosted at that moment, so that connections live
    on while applications are replaced.
    """

    def __init__(self, hosted: Hosted, timeouts: Timeouts) -> None:
        super().__init__(
            self._answer,
            request_factory=self._request,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_LINE,
        )
        self._hosted = hosted
        self._timeouts = timeouts
        self._open = Crowd()
        self._watch: asyncio.TimerHandle | None = None

    def __call__(self) -> web.RequestHandler:
        """The protocol of one connection."""
        return Connection(self, loop=self._loop, timeouts=self._timeouts, **self._kwargs)

    def host(self, hosted: Hosted, timeouts: Timeouts) -> None:
        """Give the next requests to *hosted*; new connections have *timeouts*."""
        self._hosted = hosted
        self._timeouts = timeouts

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Know the connection."""
        super().connection_made(handler, transport)
        self._open.add(cast(Connection, handler))
        if self._watch is None:
            self._watch_readers()

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        """Forget the connection: all of its bytes have left, or never will."""
        super().connection_lost(handler, exc)
        self._open.discard(cast(Connection, handler))

    async def drain(self, limit_s: float) -> None:
        """End every connection once its answers have left completely; break what takes longer."""
        for connection in self._open:
            connection.finish()
        if not await self._open.gone(limit_s):
            log.warning("connections_broken", count=len(self._open), hint="server.drain is over")
            self.abort()
            await self._open.gone(_BREAKING_S)

    def abort(self) -> None:
        """Break every connection now."""
        self._open.abort()

    def _request(self, *parts: Any) -> web.BaseRequest:
        return self._hosted.request(*parts)

    def _answer(self, request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        return self._hosted.answer(request)

    def _watch_readers(self) -> None:
        self._watch = None
        for connection in self._open:
            connection.cut_off_stalled()
        if len(self._open):
            self._watch = self._loop.call_later(self._timeouts.idle_s / 4, self._watch_readers)


async def _announce_close(request: web.Request, response: web.StreamResponse) -> None:
    """Tell the client of a connection's last answer that it is the last (signal)."""
    # aiohttp 3.14.5 loses what follows an unknown Upgrade in one segment: the next request might
    # be read from its middle on.
    is_last = isinstance(request.protocol, Connection) and request.protocol.finishing
    if is_last or "Upgrade" in request.headers:
        response.force_close()
        # aiohttp has decided on this header before it calls the signal.
        response.headers["Connection"] = "close"
