"""Moves the bytes of a file to a client's socket, exactly as many as were promised."""

import asyncio
import errno
import fcntl
import os
import socket
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext, suppress
from time import monotonic

from aiohttp import web

from gateway.domain.errors import StreamBroken
from gateway.executors.streams import FileStream, Inflow
from gateway.http.answers import COMMON_HEADERS
from gateway.http.connection import is_last
from gateway.http.context import EXCHANGE
from gateway.http.pace import PACE_LIMITS, Pace
from gateway.system.mounts import is_in_memory
from gateway.system.readiness import writable

_TURN = 1 << 20  # bytes; neighbours get the loop between turns
_GRAIN = 128 << 10
_PIPE = 512 << 10  # bytes; of the usual 64 KiB the trips cost a third more than what they move
_LONG = 4 << 20  # bytes; shorter stretches are sent faster as they come
_SPAN = 1 << 20  # bytes checked for being cached, and sent, at once

_long_ones: set[socket.socket] = set()  # to which long stretches are being sent


def complete_head(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Add what every answer has to a *response* that is going to be prepared."""
    response.headers.update(COMMON_HEADERS)
    response.headers["X-Request-ID"] = request[EXCHANGE].request_id
    if is_last(request):
        response.force_close()
        response.headers["Connection"] = "close"  # for HTTP/1.0, too


async def begun(
    request: web.BaseRequest, status: int, headers: Mapping[str, str], length: int | None = None
) -> web.StreamResponse:
    """A response whose head has been sent."""
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = length
    complete_head(request, response)
    await response.prepare(request)
    return response


class Transfer:
    """The body of one prepared response, written in order."""

    def __init__(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        self._request = request
        self._response = response
        self._exchange = request[EXCHANGE]
        self._exchange.status = response.status
        self._exchange.first_byte_at = monotonic()
        self._turn = 0
        self._pace = Pace(request[PACE_LIMITS], _transport(request))

    async def write(self, data: bytes) -> None:
        """Send *data*; raise `ConnectionError` if the client is gone or too slow."""
        self._pace.sent(len(data))
        await self._pace.wait(self._response.write(data))
        self._exchange.bytes_sent += len(data)

    async def send(self, stream: FileStream, first: int, count: int | None) -> None:
        """Send *count* bytes from position *first*; raise `StreamBroken` if there are fewer.

        None is for a file of unknown size: all there is.
        """
        if self._request.secure:
            await self._write_chunks(stream, first, count)
        elif stream.descriptor is not None:
            await self._flush()
            with _own_socket(self._request) as sock:
                if count is None:
                    await self._send_growing(sock, stream.descriptor, stream, first)
                else:
                    await self._sendfile(sock, stream.descriptor, stream, first, count)
        elif count is None:
            await self._write_chunks(stream, first, count)
        elif (inflow := stream.inflow(first, count)) is not None:
            with closing(inflow):
                await self._splice(inflow, count)
        else:
            await self._write_chunks(stream, first, count)

    async def end(self) -> web.StreamResponse:
        """Finish the response and return it."""
        await self._pace.wait(self._response.write_eof())
        return self._response

    async def _write_chunks(self, stream: FileStream, first: int, count: int | None) -> None:
        chunks = stream.chunks(first, count)
        try:
            async for chunk in chunks:
                await self.write(chunk)
        finally:
            # Now, not when it is collected: what it reads from is closed meanwhile.
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()

    async def _send_growing(
        self, sock: socket.socket, descriptor: int, stream: FileStream, first: int
    ) -> None:
        """Send a file to the end that it will have, in chunks (RFC 9112, 7.1)."""
        end_of_chunk = b""
        while there := await stream.reach(first) - first:
            await self._put(sock, b"%b%x\r\n" % (end_of_chunk, there))
            await self._sendfile(sock, descriptor, stream, first, there)
            first += there
            end_of_chunk = b"\r\n"
        await self._put(sock, end_of_chunk)

    async def _put(self, sock: socket.socket, data: bytes) -> None:
        while data:
            try:
                data = data[sock.send(data) :]
            except BlockingIOError:
                await self._pace.wait(writable(sock.fileno()))

    async def _sendfile(
        self, sock: socket.socket, descriptor: int, stream: FileStream, first: int, count: int
    ) -> None:
        end = first + count
        while first < end:
            there = min(end, await stream.reach(first))
            if first >= there:
                raise StreamBroken("the file is shorter than it was to be")
            with _long_stretch(sock) if there - first >= _LONG else nullcontext():
                await self._send_stretch(sock.fileno(), descriptor, stream, first, there)
            first = there

    async def _send_stretch(
        self, sock: int, descriptor: int, stream: FileStream, first: int, end: int
    ) -> None:
        while first < end:
            span = min(end - first, _SPAN)
            if not _cached(descriptor, first, span):
                # sendfile would wait for the disk on the loop: have the pool fetch it first.
                await stream.read(first, span)
            try:
                sent = os.sendfile(sock, descriptor, first, span)
            except BlockingIOError:
                await self._pace.wait(writable(sock))
                continue
            if sent == 0:
                raise StreamBroken("the file became shorter")
            first += sent
            await self._moved(sent)

    async def _splice(self, inflow: Inflow, count: int) -> None:
        """Send what has come already, and have the kernel move the rest by way of a pipe."""
        begun = inflow.begun()
        left = count - len(begun)
        await self.write(begun)
        del begun  # a slow reader's would be kept to the end
        await self._flush()
        with _own_socket(self._request) as sock, _pipe() as (outlet, inlet):
            while left:
                held = await inflow.take(inlet, left)
                left -= held
                while held:
                    try:
                        sent = os.splice(outlet, sock.fileno(), held, flags=os.SPLICE_F_NONBLOCK)
                    except BlockingIOError:
                        await self._pace.wait(writable(sock.fileno()))
                        continue
                    held -= sent
                    await self._moved(sent)

    async def _moved(self, count: int) -> None:
        """Count what has gone to the socket, and now and then let the neighbours have the loop."""
        self._pace.sent(count)
        self._exchange.bytes_sent += count
        self._turn += count
        if self._turn >= _TURN:
            self._turn = 0
            await asyncio.sleep(0)

    async def _flush(self) -> None:
        """Wait until everything written so far has left aiohttp's and asyncio's buffers."""
        low, high = _transport(self._request).get_write_buffer_limits()
        _transport(self._request).set_write_buffer_limits(0)
        await self._pace.wait(self._request.writer.drain())
        _transport(self._request).set_write_buffer_limits(high, low)


def _cached(descriptor: int, first: int, count: int) -> bool:
    """Whether the span is in memory, asked at the grain in which the kernel reads ahead."""
    byte = bytearray(1)
    try:
        for position in (*range(first, first + count, _GRAIN), first + count - 1):
            os.preadv(descriptor, (byte,), position, os.RWF_NOWAIT)
    except OSError as exc:
        # A file system in memory has no use for the question.
        return exc.errno == errno.EOPNOTSUPP and is_in_memory(os.fstat(descriptor).st_dev)
    return True


def _transport(request: web.BaseRequest) -> asyncio.Transport:
    """The client's transport while it can be used; raise `ConnectionResetError` afterwards."""
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client left")
    return transport


def _own_socket(request: web.BaseRequest) -> socket.socket:
    """The client's socket under our own descriptor: the loop lets nobody watch a transport's."""
    theirs = _transport(request).get_extra_info("socket")
    return socket.socket(theirs.family, theirs.type, theirs.proto, os.dup(theirs.fileno()))


@contextmanager
def _long_stretch(sock: socket.socket) -> Iterator[None]:
    """While no other is being sent, have TCP send no half segments of this one but the last.

    sendfile's pages come to it in small lots, and a reader that waits for them is woken for each:
    to put them together (nginx' `tcp_nopush`) takes a quarter less of the processor. Several
    readers do not wait for the gateway but for a processor, and are served more slowly so.
    """
    for other in _long_ones:
        _cork(other, on=False)
    _cork(sock, on=not _long_ones)
    _long_ones.add(sock)
    try:
        yield
    finally:
        _long_ones.discard(sock)
        _cork(sock, on=False)


def _cork(sock: socket.socket, *, on: bool) -> None:
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, on)


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    """Where a pipe is read, and where it is written to."""
    outlet, inlet = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        with suppress(PermissionError):  # a user's pipes may not hold more than so much together
            fcntl.fcntl(inlet, fcntl.F_SETPIPE_SZ, _PIPE)
        yield outlet, inlet
    finally:
        os.close(outlet)
        os.close(inlet)
