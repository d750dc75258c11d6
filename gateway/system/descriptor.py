"""A file descriptor that is never closed, and so never reused, under a running read."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Descriptor:
    """An open file shared by the event loop and the threads of the reading pool."""

    __slots__ = ("_lock", "_users", "fd", "is_closed")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._lock = threading.Lock()
        self._users = 0
        self.is_closed = False

    @contextmanager
    def held(self) -> Iterator[int]:
        """Keep the file open for the block; raise ValueError if it is closed already."""
        with self._lock:
            if self.is_closed:
                raise ValueError("the file is closed")
            self._users += 1
        try:
            yield self.fd
        finally:
            with self._lock:
                self._users -= 1
                last = self.is_closed and not self._users
            if last:
                os.close(self.fd)

    def close(self) -> None:
        """Close the file, or leave that to the last thread that holds it."""
        with self._lock:
            if self.is_closed:
                return
            self.is_closed = True
            if self._users:
                return
        os.close(self.fd)
