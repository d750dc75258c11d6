"""A server before a real backend: it hands the backend's answers on, with one fault in them."""

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace

_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.I)


@dataclass(frozen=True)
class Answer:
    """What the backend said; *headers* are without those that frame the body."""

    status: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def head(self, *framing: str) -> bytes:
        """The head with these lines instead of the ones that frame the body."""
        lines = [f"HTTP/1.1 {self.status}", *(f"{name}: {value}" for name, value in self.headers)]
        return "\r\n".join([*lines, *framing, "Connection: close"]).encode() + b"\r\n\r\n"

    def whole(self) -> bytes:
        """The answer as it should be."""
        return self.head(f"Content-Length: {len(self.body)}") + self.body

    def with_header(self, name: str, value: str) -> "Answer":
        """With *name* set."""
        others = [pair for pair in self.headers if pair[0].lower() != name.lower()]
        return replace(self, headers=(*others, (name, value)))

    def with_body(self, body: bytes) -> "Answer":
        """With another body."""
        return replace(self, body=body)


@dataclass
class Exchange:
    """One request that came to the proxy; *number* counts them from 1."""

    number: int
    request: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    backend: int

    async def answer(self) -> Answer:
        """What the real backend answers."""
        return await _asked(self.backend, self.request)

    async def say(self, data: bytes) -> None:
        """Send *data* to who asked."""
        try:
            self.writer.write(data)
        except RuntimeError as exc:  # what uvloop says of a connection that is gone
            raise ConnectionResetError(str(exc)) from exc
        await self.writer.drain()

    async def left(self) -> None:
        """Wait until who asked has gone."""
        while await self.reader.read(65536):
            pass

    async def reset(self) -> None:
        """End the connection with a TCP reset; what was said before is on its way by then."""
        await asyncio.sleep(0.05)
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Fault = Callable[[Exchange], Awaitable[None]]
"""Answers one request, in its way; when it returns, the connection is closed."""


async def honest(exchange: Exchange) -> None:
    """No fault at all."""
    await exchange.say((await exchange.answer()).whole())


@dataclass
class FaultProxy:
    """Listens at *port*; *fault* may be changed at any time, *requests* are those that came."""

    port: int
    fault: Fault = honest
    requests: list[bytes] = field(default_factory=list)


@asynccontextmanager
async def running(backend: int = 0, fault: Fault = honest) -> AsyncIterator[FaultProxy]:
    """Start before the backend on that port of this host; 0 is for faults that need none."""
    proxy = FaultProxy(0, fault)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                request = await _request(reader)
                proxy.requests.append(request)
                number = len(proxy.requests)
                await proxy.fault(Exchange(number, request, reader, writer, backend))
        finally:
            writer.close()

    async with _tracked(serve) as handler:
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        proxy.port = server.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            server.close()


@contextmanager
def refusing() -> Iterator[int]:
    """A port at which nobody listens, kept from others as long as it must be so."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@contextmanager
def black_hole() -> Iterator[int]:
    """A port whose queue is full: whoever connects gets no answer, not even a refusal."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        waiting = []
        for _ in range(3):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(sock.getsockname())
            waiting.append(client)
        try:
            yield sock.getsockname()[1]
        finally:
            for client in waiting:
                client.close()


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def _tracked(serve: Serve) -> AsyncIterator[Serve]:
    """*serve*, whose running calls are ended with the block; what they raise is raised then."""
    running: set[asyncio.Task[object]] = set()

    async def tracked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        with suppress(asyncio.CancelledError):
            await serve(reader, writer)

    try:
        yield tracked
    finally:
        for task in running:
            task.cancel()
        for result in await asyncio.gather(*running, return_exceptions=True):
            if isinstance(result, Exception):
                raise result


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(head)
    return head + (await reader.readexactly(int(length[1])) if length else b"")


async def _asked(port: int, request: bytes) -> Answer:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head, _, body = request.partition(b"\r\n\r\n")
        head = re.sub(rb"\r\nconnection:[^\r]*", b"", head, flags=re.I)
        writer.write(head + b"\r\nConnection: close\r\n\r\n" + body)
        raw = await reader.readuntil(b"\r\n\r\n")
        first, *lines = raw[:-4].decode("latin-1").split("\r\n")
        pairs = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
        known = {name.lower(): value for name, value in pairs}
        chunked = known.get("transfer-encoding") == "chunked"
        answer = await (_unchunked(reader) if chunked else reader.read())
        headers = tuple(pair for pair in pairs if pair[0].lower() not in _HOP)
        return Answer(first.partition(" ")[2], headers, answer)
    finally:
        writer.close()


async def _unchunked(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    return body
