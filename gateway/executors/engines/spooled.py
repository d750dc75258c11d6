"""What came whole waits on this host's disk, in a temporary file without a name."""

import asyncio
import os
import tempfile
from asyncio import wrap_future
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager

from gateway.domain.errors import Busy, StreamBroken, Unavailable
from gateway.domain.model import Entry
from gateway.executors.streams import FileStream
from gateway.system.descriptor import Descriptor
from gateway.system.pool import Pool

_THREADS = 4
_PIECE = 256 * 1024
_FLUSHED = 1024 * 1024  # bytes in memory before they are written


class Room:
    """How many bytes all temporary files together may still take: readers may be slow, and many.

    They are written and read in *pool*.
    """

    def __init__(self, pool: Pool, most: int) -> None:
        self.pool = pool
        self.left = most

    @classmethod
    @contextmanager
    def running(cls, name: str, most: int) -> Iterator["Room"]:
        """Room for *most* bytes of the executor *name*, and the threads to use it."""
        pool = Pool(f"{name}-spool", _THREADS)
        try:
            yield cls(pool, most)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class Spool:
    """The temporary file while it is written."""

    def __init__(self, file: Descriptor, room: Room) -> None:
        self.file = file
        self.pool = room.pool
        self.size = 0
        self._room = room
        self._taken = 0
        self._waiting: list[bytes | memoryview] = []
        self._held = 0

    @classmethod
    @asynccontextmanager
    async def opened(cls, room: Room) -> AsyncIterator["Spool"]:
        """A new one, gone when the block is left; raise `Unavailable` if there is no place."""
        making = room.pool.submit(_temporary)
        try:
            file = Descriptor(await wrap_future(making))
        except OSError as exc:
            raise Unavailable("the gateway has no place for the executor's file") from exc
        except asyncio.CancelledError:
            making.add_done_callback(_unmade)
            raise
        spool = cls(file, room)
        try:
            yield spool
        finally:
            file.close()
            room.left += spool._taken

    async def write(self, data: bytes | memoryview) -> None:
        """Append *data*; raise `Busy` or `Unavailable` if there is no room for it."""
        self._waiting.append(data)
        self._held += len(data)
        if self._held >= _FLUSHED:
            await self.flush()

    async def flush(self) -> None:
        """Write what is still in memory."""
        data, count, self._waiting, self._held = self._waiting, self._held, [], 0
        if count > self._room.left:
            raise Busy("too many of the executor's files are being read")
        self._room.left -= count
        self._taken += count
        try:
            self.size += await wrap_future(self.pool.submit(_append, self.file, data, self.size))
        except OSError as exc:
            raise Unavailable("the gateway has no room for the executor's file") from exc


class SpooledFile(FileStream):
    """A file that is on the disk already, so that every part of it is cheap.

    It may be one of many in *spool*, where it begins at *offset*.
    """

    complete = True

    def __init__(self, source: str, entry: Entry, spool: Spool, offset: int = 0) -> None:
        self.source = source
        self.entry = entry
        self.descriptor = None if offset else spool.file.fd
        self._spool = spool
        self._offset = offset

    async def read(self, first: int, count: int) -> bytes:
        """Return exactly *count* bytes from position *first*."""
        part = self._spool.pool.submit(_part, self._spool.file, self._offset + first, count)
        try:
            data = await wrap_future(part)
        except (OSError, ValueError) as exc:
            raise StreamBroken("the file cannot be read on") from exc
        if len(data) != count:
            raise StreamBroken("the file is shorter than it was")
        return data

    async def chunks(self, first: int, count: int | None) -> AsyncIterator[bytes]:
        """Yield exactly *count* bytes from position *first*, 256 KiB at a time."""
        assert count is not None  # the size is known
        end = first + count
        for position in range(first, end, _PIECE):
            yield await self.read(position, min(_PIECE, end - position))


def _temporary() -> int:
    with tempfile.TemporaryFile(buffering=0) as file:
        return os.dup(file.fileno())


def _unmade(making: "Future[int]") -> None:
    """Close what was made when nobody waited for it any more."""
    if not making.cancelled() and making.exception() is None:
        os.close(making.result())


def _append(file: Descriptor, pieces: list[bytes | memoryview], position: int) -> int:
    data = memoryview(b"".join(pieces))
    written = 0
    with file.held() as fd:
        while written < len(data):
            written += os.pwrite(fd, data[written:], position + written)
    return written


def _part(file: Descriptor, first: int, count: int) -> bytes:
    pieces = []
    with file.held() as fd:
        while count:
            piece = os.pread(fd, count, first)
            if not piece:
                break
            pieces.append(piece)
            first += len(piece)
            count -= len(piece)
    return b"".join(pieces)
