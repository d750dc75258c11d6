"""An open regular file of a workspace as a stream."""

import os
from collections.abc import Awaitable, Callable
from hashlib import blake2b

from gateway.domain.model import Entry, Kind
from gateway.domain.paths import WorkspacePath
from gateway.executors.streams import FileStream
from gateway.system.descriptor import Descriptor
from gateway.system.pool import Pool
from gateway.system.reading import Reader

Locate = Callable[[Descriptor], Awaitable[bytes | None]]


class LocalStream(Reader, FileStream):
    """A regular file; *fd* is its own now, and *found* was read from it."""

    def __init__(
        self,
        source: str,
        path: WorkspacePath,
        fd: int,
        found: os.stat_result,
        pool: Pool,
        locate: Locate,
    ) -> None:
        self.source = source
        self.entry = Entry(
            path,
            Kind.FILE,
            found.st_size,
            found.st_mtime_ns,
            found.st_mode & 0o7777,
            False,
            version_of(found),
        )
        self.descriptor: int | None = fd
        super().__init__(Descriptor(fd), pool)
        self._locate = locate

    def close(self) -> None:
        """Give the descriptor back, now or when the pool's thread has done its read."""
        self.descriptor = None
        self._file.close()

    async def location(self) -> bytes | None:
        """Where the file lies below the executor's root."""
        return await self._locate(self._file)


def version_of(found: os.stat_result) -> str:
    """A strong validator: a write changes it, another process computes the same."""
    state = b"%d.%d.%d.%d" % (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return blake2b(state, digest_size=16).hexdigest()
