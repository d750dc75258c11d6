"""Client connections: how long each may take, and how all of them end without losing an answer."""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from aiohttp import EMPTY_PAYLOAD, HttpVersion11, StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpProcessingError, HttpRequestParser, RawRequestMessage, StreamWriter
from aiohttp.tcp_helpers import tcp_keepalive

from gateway.http.answers import Answer, Response
from gateway.http.context import EXCHANGE, Exchange
from gateway.http.deadline import Deadline
from gateway.http.pace import untaken
from gateway.http.unreadable import UNREADABLE, failure, refusal

# Longer heads are refused with 400. A path of 4095 bytes may be percent-encoded threefold, and a
# key of 8 KB has to be answered like any other wrong key.
_LONGEST_LINE = 16 * 1024
_MOST_FIELDS = 128
_MOST_WAITING = 32  # requests that have come before they could be answered
_BODY_BUFFER = 256 * 1024  # bytes of a request's body
_LAST_HEAD_S = 0.5  # for a head that may be under way when the gateway ends
_LOOK_S = 0.05  # how often the last bytes of a gateway that ends are looked after


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a connection may be without a whole head, without a request, without a reader."""

    header_s: float
    keepalive_s: float
    idle_s: float


class Host(Protocol):
    """Whom connections belong to."""

    is_leaving: bool
    """Whether every answer is to be the last of its connection."""

    def opened(self, connection: "Connection") -> None:
        """There is a new one."""

    def closed(self, connection: "Connection") -> None:
        """It is gone: all of its bytes have left, or never will."""

    @property
    def shared(self) -> Mapping[web.RequestKey[Any] | str, Any]:
        """What every request brings."""

    async def answer(self, request: web.BaseRequest) -> Response:
        """Answer; raise `ConnectionError` if the connection is of no more use."""


_Coming = tuple[RawRequestMessage | Exception, StreamReader]


class Connection(BaseProtocol):
    """Parses requests as they come and answers them one by one, all in one task.

    A connection that has not sent a complete request head *header_s* seconds after it was opened,
    or after the first byte of the next head, is closed, and one that sends nothing for
    *keepalive_s*. (That one also holds for a head that begins while the request before it is being
    answered.) A reader that does not take the rest of an answer whose handler
    is done is cut off. Nothing is told of the bytes of a malformed head, in which a key may stand.
    """

    def __init__(self, host: Host, timeouts: Timeouts) -> None:
        loop = asyncio.get_running_loop()
        parser = HttpRequestParser(
            self,
            loop,
            _BODY_BUFFER,
            max_line_size=_LONGEST_LINE,
            max_headers=_MOST_FIELDS,
            max_field_size=_LONGEST_LINE,
            payload_exception=web.RequestPayloadError,
            auto_decompress=False,
            # A request counts twice whose body comes behind its head: once it has been taken, too.
            max_msg_queue_size=_MOST_WAITING + 1,
        )
        super().__init__(loop, parser)
        self._requests = parser
        self.host = host
        self.timeouts = timeouts
        self._waiting: deque[_Coming] = deque()
        self._newest: StreamReader = EMPTY_PAYLOAD  # the body that may not have come completely
        self._idle: asyncio.Future[None] | None = None  # while there is nothing to answer
        self._in_head = True
        self._is_deaf = False  # nothing that still comes is a request
        self._is_answering = False
        self._deadline = Deadline(loop, self._close_if_idle)
        self._stalled = (0, 0.0)  # so many bytes are left to send, since when
        self._is_finishing = False  # nothing is waited for that is not on its way
        self.is_aborted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start waiting for the first head."""
        super().connection_made(transport)
        tcp_keepalive(cast(asyncio.Transport, transport))
        # For aiohttp's requests.
        self.ssl_context = transport.get_extra_info("sslcontext")
        self.peername = transport.get_extra_info("peername")
        self.sockname = transport.get_extra_info("sockname")
        self._deadline.within(min(self.timeouts.header_s, self.timeouts.keepalive_s))
        self._task = self._loop.create_task(self._serve())
        self.host.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop waiting, and the handler: nobody wants its answer any more."""
        super().connection_lost(exc)
        self._is_deaf = True
        self._deadline.cancel()
        self._task.cancel()
        self.host.closed(self)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; an incomplete head starts the clock."""
        if self._is_deaf:
            return
        messages: Sequence[_Coming]
        try:
            messages, self._is_deaf, _ = self._requests.feed_data(data)
        except (HttpProcessingError, IndexError) as exc:  # that is yarl's, for http://[x]:@
            if not self._newest.is_eof():
                self._newest.set_exception(web.RequestPayloadError("malformed"))
            messages, self._is_deaf = [(exc, EMPTY_PAYLOAD)], True
        if messages:
            self._newest = messages[-1][1]
            self._in_head = False
            self._waiting.extend(messages)
            if self._idle is not None and not self._idle.done():
                self._idle.set_result(None)
            if len(self._waiting) >= _MOST_WAITING and not self._buffer_paused:
                self._pause_reading_for_buffer()
        elif self._idle is not None and not self._in_head:
            self._in_head = True
            self._wait_for_head(self.timeouts.header_s)

    def finish(self) -> None:
        """Answer what has been asked, is being asked, or is on its way already; close.

        A proxy that has sent a `POST` on an idle connection may not ask another gateway.
        """
        self._is_finishing = True
        self._wait_for_head(self.timeouts.header_s)

    def abort(self) -> None:
        """End so that no client, HTTP/1.0 included, can take it for a clean end."""
        self.is_aborted = True
        if self.transport is None:
            return
        sock = self.transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def give_up(self) -> None:
        """Break what is not complete; what is, and still on its way, is left to the kernel."""
        if self.transport is None or self._is_answering or self.transport.get_write_buffer_size():
            self.abort()
        else:
            self.transport.close()

    def cut_off_stalled(self) -> None:
        """Abort if the reader has taken nothing of a finished answer for *idle_s* seconds.

        Called every now and then. While a handler runs, its `Pace` watches the reader.
        """
        if self.transport is None or self._is_answering:
            return
        buffered, now = self.transport.get_write_buffer_size(), self._loop.time()
        left = (buffered or self.host.is_leaving) and untaken(self.transport)
        if left != self._stalled[0]:
            self._stalled = (left, now)
        elif left and now - self._stalled[1] >= self.timeouts.idle_s:
            self.abort()

    async def _serve(self) -> None:
        try:
            while await self._answered_one():
                if self._waiting:
                    await asyncio.sleep(0)  # whoever sends many at once takes turns with others
        except ConnectionError:
            pass  # the client has gone
        finally:
            self._close()

    async def _answered_one(self) -> bool:
        """Answer the next request; return whether another may follow it."""
        if not self._waiting:
            await self._asked()
        message, payload = self._next()
        error = message if isinstance(message, Exception) else None
        head = UNREADABLE if isinstance(message, Exception) else message
        writer = StreamWriter(self, self._loop)
        request = self._request(head, payload, writer)
        self._is_answering = True
        try:
            response = refusal(request, error) if error else await self.host.answer(request)
        except ConnectionError:
            raise
        except Exception as exc:  # logged, by its name alone
            if writer.output_size:
                raise ConnectionError("the connection is of no more use") from exc
            response = failure(exc)
        finally:
            self._is_answering = False
        if isinstance(response, Answer):
            data = response.written(request, is_last=is_last(request))
            if self.transport is None or self.transport.is_closing():
                raise ConnectionResetError("the client left")
            self.transport.write(data)
            if self.writing_paused:
                await writer.drain()
        else:
            await response.prepare(request)
            await response.write_eof()
        # Before it closes, too: a client that is still sending would lose the answer to a reset.
        return (payload.is_eof() or await self._took_rest(payload)) and bool(response.keep_alive)

    async def _asked(self) -> None:
        self._newest = EMPTY_PAYLOAD  # what nobody wanted of it is not kept
        if not self._in_head:
            self._wait_for_head(self.timeouts.keepalive_s)
        self._idle = self._loop.create_future()
        try:
            await self._idle
        finally:
            self._idle = None

    def _next(self) -> _Coming:
        coming = self._waiting.popleft()
        self._requests.message_consumed()
        if self._buffer_paused and len(self._waiting) <= _MOST_WAITING // 2:
            self.data_received(b"")  # what the parser has held back
            if len(self._waiting) < _MOST_WAITING:
                self._resume_reading_for_buffer()
        return coming

    def _request(
        self, head: RawRequestMessage, payload: StreamReader, writer: StreamWriter
    ) -> web.BaseRequest:
        return web.BaseRequest(
            head,
            payload,
            self,  # type: ignore[arg-type]  # has all that a request asks its protocol for
            writer,
            self._task,
            self._loop,
            state={**self.host.shared, EXCHANGE: Exchange(head.headers)},
        )

    async def _took_rest(self, payload: StreamReader) -> bool:
        """Take what nobody wanted of a body, as long as a head may take; whether it has ended."""
        try:
            async with asyncio.timeout(self.timeouts.header_s):
                while not payload.is_eof():
                    await payload.readany()
        except (TimeoutError, HttpProcessingError, web.RequestPayloadError):
            return False
        return True

    def _wait_for_head(self, seconds: float) -> None:
        self._deadline.within(min(seconds, _LAST_HEAD_S) if self._is_finishing else seconds)

    def _close_if_idle(self) -> None:
        # Otherwise the time is set anew behind the answer; one that has just come begins later.
        if self._idle is not None and not self._waiting:
            self._close()

    def _close(self) -> None:
        """End once everything written has left, and before the process ends, has arrived."""
        self._is_deaf = True
        if self.transport is None:
            return
        # A container's network ends with its process, and so does what the kernel has yet to send.
        if self.host.is_leaving and untaken(self.transport):
            self._loop.call_later(_LOOK_S, self._close)
        else:
            self.transport.close()


def is_last(request: web.BaseRequest) -> bool:
    """Whether the connection ends with the answer to *request*."""
    # aiohttp's parser takes what follows an Upgrade or a CONNECT for no request. Where a body ends
    # that HTTP/1.0 has no chunks for, a proxy may see otherwise (RFC 9112 section 6.1).
    return (
        cast(Connection, request.protocol).host.is_leaving
        or "Upgrade" in request.headers
        or request.method == "CONNECT"
        or (request.version < HttpVersion11 and "Transfer-Encoding" in request.headers)
    )
