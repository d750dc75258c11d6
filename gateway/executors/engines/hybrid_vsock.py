"""Connections into a Firecracker microVM, through the unix socket that it has for its vsock."""

import asyncio
import errno
import os
import re
import socket

import aiohttp
from aiohttp.client_exceptions import UnixClientConnectorError
from aiohttp.client_proto import ResponseHandler
from aiohttp.tracing import Trace

_ACCEPTED = re.compile(rb"OK [0-9]{1,10}\n")
_LONGEST_WORD = 32  # bytes


class HybridVsockConnector(aiohttp.BaseConnector):
    """Connects to *port* of the guest whose VMM listens on the unix socket at *path*.

    The host says `CONNECT <port>`, the VMM answers `OK <its own port>`, each on a line of its own;
    what follows is the guest's. If nobody listens on the port, the VMM hangs up instead.
    (Firecracker's docs/vsock.md, "Host-initiated connections".)
    """

    def __init__(self, path: str, port: int) -> None:
        super().__init__(limit=0)
        self._path = path
        self._port = port

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            async with asyncio.timeout(timeout.sock_connect):
                await self._reach_guest(sock)
                _, protocol = await self._loop.create_unix_connection(self._factory, sock=sock)
        except TimeoutError:
            sock.close()
            raise
        except OSError as exc:
            sock.close()
            raise UnixClientConnectorError(self._path, req.connection_key, exc) from exc
        except BaseException:  # cancelled
            sock.close()
            raise
        return protocol

    async def _reach_guest(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        await self._loop.sock_connect(sock, self._path)
        await self._loop.sock_sendall(sock, b"CONNECT %d\n" % self._port)
        word = b""
        while not word.endswith(b"\n") and len(word) < _LONGEST_WORD:
            # A byte at a time: what stands behind the line belongs to HTTP.
            byte = await self._loop.sock_recv(sock, 1)
            if not byte:
                raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
            word += byte
        if _ACCEPTED.fullmatch(word) is None:
            raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
