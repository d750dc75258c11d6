"""Readers on bare sockets, cheap enough that what they measure is the server."""

import contextlib
import hashlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

from tests.benchmarks.load import Broken
from tests.benchmarks.peers import KEY
from tests.benchmarks.processes import HOST, Server

_BUFFER = 1 << 20
_HEAD = 64 << 10
_PATIENCE_S = 30
_LAST_CHUNK = b"\r\n0\r\n\r\n"

Sink = Callable[[memoryview], object]


@dataclass(frozen=True, slots=True)
class Read:
    """One answer, in seconds of the monotonic clock and bytes of the body as it travelled."""

    began: float
    first_byte: float
    ended: float
    bytes: int

    @property
    def first_byte_ms(self) -> float:
        """Return how long the first byte of the body took."""
        return (self.first_byte - self.began) * 1e3

    @property
    def total_ms(self) -> float:
        """Return how long the whole answer took."""
        return (self.ended - self.began) * 1e3


class Reader:
    """One keep-alive connection and the one buffer that all its answers are read into."""

    def __init__(self, server: Server) -> None:
        self._buffer = memoryview(bytearray(_BUFFER))
        self._socket = socket.create_connection((HOST, server.port), timeout=_PATIENCE_S)
        # The kernel keeps this deadline; Python's own would cost a poll for every read.
        self._socket.settimeout(None)
        deadline = struct.pack("ll", _PATIENCE_S, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, deadline)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def get(
        self, path: str, *, status: int = 200, discard: bool = False, sink: Sink | None = None
    ) -> Read:
        """Ask once and read the answer to its end; raise `Broken` unless it is whole.

        Another *status* is `Broken`, too. The framing of chunks counts as well. *discard* lets the
        kernel drop the body uncopied: its bytes are counted, not seen, so there must be a length.
        """
        asked = _request(path)
        began = time.monotonic()
        self._socket.sendall(asked)
        head, body = self._head(status)
        first_byte = time.monotonic()
        length, chunked = _framing(head)
        if discard and length is None:
            raise Broken(f"{path} came without a length")
        if sink is not None:
            sink(body)
        got, tail, flags = len(body), bytes(body[-8:]), socket.MSG_TRUNC if discard else 0
        while got < length if length is not None else not tail.endswith(_LAST_CHUNK):
            part = self._socket.recv_into(self._buffer, 0, flags)
            if part == 0:
                if length is None and not chunked:
                    break  # its end is that of the connection
                raise Broken(f"{path} ended after {got} bytes")
            got += part
            if sink is not None:
                sink(self._buffer[:part])
            if length is None:
                tail = (tail + bytes(self._buffer[max(0, part - 8) : part]))[-8:]
        if length is not None and got != length:
            raise Broken(f"{path} sent {got} bytes of {length}")
        return Read(began, first_byte, time.monotonic(), got)

    def _head(self, status: int) -> tuple[bytes, memoryview]:
        got, end = 0, -1
        # Wait for a byte of the body as well: that one is the first byte that is told.
        while end < 0 or got == end + 4:
            part = self._socket.recv_into(self._buffer[got:_HEAD])
            if part == 0:
                raise Broken(f"the head broke off: {bytes(self._buffer[:got])[:100]!r}")
            got += part
            if end < 0:
                end = bytes(self._buffer[:got]).find(b"\r\n\r\n")
        head = bytes(self._buffer[:end])
        if not head.startswith(b"HTTP/1.1 %d " % status):
            raise Broken(f"not a {status}: {head[:100]!r}")
        return head, self._buffer[end + 4 : got]


def read_at_once(
    server: Server, paths: Sequence[str], *, times: int = 1, discard: bool = False
) -> list[Read]:
    """Return what readers saw that asked for *paths* in one moment, each on its own connection."""
    barrier = threading.Barrier(len(paths))

    def one(path: str) -> list[Read]:
        with Reader(server) as reader:
            barrier.wait(_PATIENCE_S)
            return [reader.get(path, discard=discard) for _ in range(times)]

    with ThreadPoolExecutor(len(paths)) as pool:
        return [read for reads in pool.map(one, paths) for read in reads]


def took(reads: Sequence[Read]) -> float:
    """Return the seconds from the first question to the end of the last answer."""
    return max(read.ended for read in reads) - min(read.began for read in reads)


def read_slowly(server: Server, paths: Sequence[str], seconds: float) -> None:
    """Let a reader of each path take 64 KiB now and then for a while, and leave in the middle."""
    with contextlib.ExitStack() as open_connections:
        connections = []
        for path in paths:
            connection = socket.create_connection((HOST, server.port), timeout=_PATIENCE_S)
            connections.append(open_connections.enter_context(connection))
            connection.sendall(_request(path))
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for connection in connections:
                if not connection.recv(_HEAD):
                    raise Broken(f"{server.name} did not wait for a slow reader")
            time.sleep(0.05)


def sha256(server: Server, path: str) -> str:
    """Return the digest of the body, from a reader that copies all of it."""
    digest = hashlib.sha256()
    with Reader(server) as reader:
        reader.get(path, sink=digest.update)
    return digest.hexdigest()


def _request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nX-API-Key: {KEY}\r\n\r\n".encode()


def _framing(head: bytes) -> tuple[int | None, bool]:
    """Return the length, if it is told, and whether the body comes in chunks."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2]), False
    return None, b"transfer-encoding: chunked" in head.lower()
