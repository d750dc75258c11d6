"""The rest of an answer's body, moved by the kernel from the connection it comes by."""

import os
from typing import Self

import aiohttp

from gateway.domain.errors import StreamBroken
from gateway.executors.streams import Inflow
from gateway.system.readiness import readable


class SocketInflow(Inflow):
    """Takes over the socket of a connection, which is of no other use afterwards."""

    def __init__(self, begun: bytes, socket: int) -> None:
        self._begun = begun
        self._socket = os.dup(socket)  # aiohttp may close its own at any time

    @classmethod
    def of(cls, response: aiohttp.ClientResponse, held: bytes) -> Self | None:
        """What comes behind *held*, which has been read of the body.

        None if all of it has come, nothing more will, or it is encrypted.
        """
        content, connection = response.content, response.connection
        transport = None if connection is None else connection.transport
        if (
            transport is None
            or transport.is_closing()
            or content.exception() is not None
            or transport.get_extra_info("sslcontext") is not None
        ):
            return None
        begun = held + content.read_nowait()
        transport.pause_reading()  # not before: that there is room again resumes it
        return cls(begun, transport.get_extra_info("socket").fileno())

    def begun(self) -> bytes:
        """What aiohttp has read, and what had been read of it before."""
        begun, self._begun = self._begun, b""
        return begun

    async def take(self, pipe: int, most: int) -> int:
        """Move the next bytes into *pipe*; raise `StreamBroken` if there are no more."""
        try:
            while True:
                try:
                    taken = os.splice(self._socket, pipe, most, flags=os.SPLICE_F_NONBLOCK)
                    break
                except BlockingIOError:
                    await readable(self._socket)
        except OSError as exc:
            raise StreamBroken("the executor's answer was cut short") from exc
        if taken == 0:
            raise StreamBroken("the executor's answer was cut short")
        return taken

    def close(self) -> None:
        """Leave the socket alone."""
        os.close(self._socket)
