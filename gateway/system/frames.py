"""Plain values between the gateway and its helper processes: marshalled, behind their length."""

import errno
import marshal
import os
import socket
import struct
from io import BufferedIOBase
from typing import Any

_LENGTH = struct.Struct("I")


def send(sock: socket.socket, value: Any, descriptors: list[int] | None = None) -> None:
    """Send *value*, made of what `marshal` knows; raise OSError if nobody takes it."""
    data = marshal.dumps(value)
    if descriptors:
        socket.send_fds(sock, [_LENGTH.pack(len(data))], descriptors)
        sock.sendall(data)
    else:
        sock.sendall(_LENGTH.pack(len(data)) + data)


def receive(file: BufferedIOBase) -> Any:
    """Return the next value; raise EOFError if the other end left, OSError if it hangs.

    The two ends are the same program: what comes is not doubted.
    """
    (length,) = _LENGTH.unpack(_exactly(file, _LENGTH.size))
    return marshal.loads(_exactly(file, length))  # noqa: S302  # see above


def receive_with(sock: socket.socket, most: int) -> tuple[Any, list[int]]:
    """As `receive`, with up to *most* descriptors, which are the caller's to close."""
    head, descriptors, flags, _ = socket.recv_fds(sock, _LENGTH.size, most, socket.MSG_CMSG_CLOEXEC)
    try:
        if flags & socket.MSG_CTRUNC:
            raise OSError(errno.EMFILE, "a descriptor could not be taken")
        return _received(sock, head), descriptors
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise


def _received(sock: socket.socket, head: bytes) -> Any:
    if len(head) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(head)
    data = bytearray(length)
    view = memoryview(data)
    while view:
        count = sock.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
    return marshal.loads(data)  # noqa: S302  # as in `receive`


def _exactly(file: BufferedIOBase, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise EOFError
    return data
