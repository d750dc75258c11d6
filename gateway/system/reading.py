"""Reads open files by position: from memory inline, from the disk by way of a pool."""

import asyncio
import io
import os
from collections.abc import AsyncIterator

from aiofiles.threadpool import wrap

from gateway.domain.errors import StreamBroken
from gateway.system.descriptor import Descriptor
from gateway.system.pool import Pool

PIECE = 256 * 1024
_PIECES_PER_TURN = 4  # then the loop's other tasks get theirs: 1 MiB is about 0.1 ms


class Reader:
    """Reads the open *file* while it is open."""

    def __init__(self, file: Descriptor, pool: Pool) -> None:
        self._file = file
        self._pool = pool

    async def read(self, first: int, count: int) -> bytes:
        """Return exactly *count* bytes from position *first*."""
        data = self._from_memory(first, count)
        if len(data) == count:
            return data
        return data + await self._from_disk(first + len(data), count - len(data))

    async def chunks(self, first: int, count: int | None) -> AsyncIterator[bytes]:
        """Yield exactly *count* bytes from position *first*, 256 KiB at a time."""
        assert count is not None  # the size of an open file is known
        end = first + count
        for number, position in enumerate(range(first, end, PIECE), 1):
            yield await self.read(position, min(PIECE, end - position))
            if number % _PIECES_PER_TURN == 0:
                await asyncio.sleep(0)

    def _from_memory(self, first: int, count: int) -> bytes:
        """As much as the page cache has of it, from the beginning; perhaps nothing."""
        if self._file.is_closed or count > PIECE:
            return b""
        buffer = io.BytesIO(bytes(count))  # gives its bytes away without another copy
        try:
            with buffer.getbuffer() as view:
                got = os.preadv(self._file.fd, (view,), first, os.RWF_NOWAIT)
        except OSError:  # not in memory, or a file system that cannot tell: the pool finds out
            return b""
        buffer.truncate(got)
        return buffer.getvalue()

    async def _from_disk(self, first: int, count: int) -> bytes:
        try:
            piece = wrap(_Piece(self._file, first, count), executor=self._pool)
            data: bytes = await piece.readall()
        except (OSError, ValueError) as exc:
            raise StreamBroken("the file cannot be read on") from exc
        if len(data) != count:
            raise StreamBroken("the file is shorter than it was")
        return data


class _Piece(io.FileIO):
    """A stretch of an open file, as aiofiles wants it; it has a position of its own."""

    def __init__(self, file: Descriptor, first: int, count: int) -> None:
        # Not FileIO's own __init__: it would ask for the file's status, here on the loop, and a
        # network file system may take its time. The descriptor is `file`'s.
        self._file = file
        self._first = first
        self._count = count

    def readall(self) -> bytes:
        data = b""
        with self._file.held() as fd:
            while len(data) < self._count:
                more = os.pread(fd, self._count - len(data), self._first + len(data))
                if not more:
                    break
                data = data + more if data else more
        return data
