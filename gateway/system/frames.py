"""Plain values between the gateway and its helper process: marshalled, behind their length."""

import marshal
import socket
import struct
from io import BufferedIOBase
from typing import Any

_LENGTH = struct.Struct("I")


def send(sock: socket.socket, value: Any) -> None:
    """Send *value*, made of what `marshal` knows; raise OSError if nobody takes it."""
    data = marshal.dumps(value)
    sock.sendall(_LENGTH.pack(len(data)) + data)


def receive(file: BufferedIOBase) -> Any:
    """Return the next value; raise EOFError if the other end left, OSError if it hangs.

    The two ends are the same program: what comes is not doubted.
    """
    (length,) = _LENGTH.unpack(_exactly(file, _LENGTH.size))
    return marshal.loads(_exactly(file, length))  # noqa: S302  # see above


def _exactly(file: BufferedIOBase, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise EOFError
    return data
