"""Standard error for log lines: what it does not take at once is dropped, and no request waits."""

import contextlib
import os
import socket
import stat
import threading
from collections.abc import Callable

_STDERR = 2


class Sink:
    """Lines to standard error, whatever it is: a file, a pipe, a socket, a terminal, or closed.

    A pipe whose reader has stopped, or a terminal that is held, would stop the whole gateway with
    the next line. *lost* makes the line that says how many were dropped, once there is room again.
    """

    def __init__(self, lost: Callable[[int], bytes]) -> None:
        _fill_closed()
        self._send = _sender()
        self._lost = lost
        self._dropped = 0
        self._rest = b""  # of a line that was taken in part
        self._lock = threading.Lock()

    def write(self, line: bytes) -> None:
        """Write *line*, which ends in a newline, now or not at all."""
        with self._lock:
            if self._rest:
                self._rest = self._rest[self._sent(self._rest) :]
            if self._rest:
                self._dropped += 1
                return
            if self._dropped:
                line = self._lost(self._dropped) + line
            sent = self._sent(line)
            if sent:
                self._rest, self._dropped = line[sent:], 0
            else:
                self._dropped += 1

    def _sent(self, data: bytes) -> int:
        try:
            return self._send(data)
        except OSError:  # full, or nobody is left to read it
            return 0


def _sender() -> Callable[[bytes], int]:
    """What sends bytes to standard error without waiting, and says how many."""
    kind = os.fstat(_STDERR).st_mode
    if stat.S_ISSOCK(kind):
        sock = socket.socket(fileno=os.dup(_STDERR))
        return lambda data: sock.send(data, socket.MSG_DONTWAIT)
    descriptor = _STDERR
    if stat.S_ISFIFO(kind) or os.isatty(_STDERR):
        # O_NONBLOCK belongs to what was opened, which other processes may share: open it anew.
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        with contextlib.suppress(OSError):
            descriptor = os.open(f"/proc/self/fd/{_STDERR}", flags)
    return lambda data: os.write(descriptor, data)


def _fill_closed() -> None:
    """Open what is closed of the standard descriptors, or the next client's socket is one."""
    for descriptor in range(_STDERR + 1):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
