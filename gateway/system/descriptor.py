"""A file descriptor that is never closed, and so never reused, under a running read."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager


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

    def copy(self) -> int:
        """Another descriptor of the same; raise ValueError if it is closed already."""
        with self.held() as fd:
            return os.dup(fd)

    def close(self) -> None:
        """Close the file, or leave that to the last thread that holds it."""
        with self._lock:
            if self.is_closed:
                return
            self.is_closed = True
            if self._users:
                return
        os.close(self.fd)


@asynccontextmanager
async def held(opening: Future[int]) -> AsyncIterator[Descriptor]:
    """What a thread opens, until it is left; also if that is before it is open."""
    try:
        descriptor = Descriptor(await asyncio.wrap_future(opening))
    except asyncio.CancelledError:
        opening.add_done_callback(_close)
        raise
    try:
        yield descriptor
    finally:
        descriptor.close()


def _close(opening: Future[int]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        os.close(opening.result())
