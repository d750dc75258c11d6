"""Moves the bytes of an open file to a client's socket, exactly as many as were promised."""

import asyncio
import os
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic

from aiohttp import web

from gateway.domain.errors import StreamBroken
from gateway.executors.streams import FileStream
from gateway.http.answers import COMMON_HEADERS
from gateway.http.connection import is_last
from gateway.http.context import EXCHANGE
from gateway.http.pace import PACE_LIMITS, Pace

_TURN = 1 << 20  # bytes; neighbours get the loop between turns
_GRAIN = 128 << 10
_SPAN = 1 << 20  # bytes checked for being cached, and sent, at once


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
        descriptor = stream.descriptor
        if descriptor is None or count is None or self._request.secure:
            chunks = stream.chunks(first, count)
            try:
                async for chunk in chunks:
                    await self.write(chunk)
            finally:
                # Now, not when it is collected: what it reads from is closed meanwhile.
                if isinstance(chunks, AsyncGenerator):
                    await chunks.aclose()
            return
        await self._flush()
        with _own_socket(self._request) as socket:
            await self._sendfile(socket, descriptor, stream, first, count)

    async def end(self) -> web.StreamResponse:
        """Finish the response and return it."""
        await self._pace.wait(self._response.write_eof())
        return self._response

    async def _sendfile(
        self, socket: int, descriptor: int, stream: FileStream, first: int, count: int
    ) -> None:
        turn = 0
        while count:
            span = min(count, _SPAN)
            if not _cached(descriptor, first, span):
                # sendfile would wait for the disk on the loop: have the pool fetch it first.
                await stream.read(first, span)
            try:
                sent = os.sendfile(socket, descriptor, first, span)
            except BlockingIOError:
                await self._pace.wait(_writable(socket))
                continue
            if sent == 0:
                raise StreamBroken("the file became shorter")
            first += sent
            count -= sent
            turn += sent
            self._pace.sent(sent)
            self._exchange.bytes_sent += sent
            if turn >= _TURN:
                turn = 0
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
    except OSError:
        return False
    return True


def _transport(request: web.BaseRequest) -> asyncio.Transport:
    """The client's transport while it can be used; raise `ConnectionResetError` afterwards."""
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client left")
    return transport


@contextmanager
def _own_socket(request: web.BaseRequest) -> Iterator[int]:
    """The client's socket under our own descriptor: the loop lets nobody watch a transport's."""
    socket = os.dup(_transport(request).get_extra_info("socket").fileno())
    try:
        yield socket
    finally:
        os.close(socket)


async def _writable(socket: int) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(socket, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_writer(socket)


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
