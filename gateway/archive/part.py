"""An entry of the spool while it is made, and what its permissions and its maker's lock tell."""

import fcntl
import io
import os
import stat
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any, Final

from gateway.system.descriptor import Descriptor

# The permissions of data: they belong to the file, not to a name, and change at one stroke.
GROWING: Final = 0o600
COMPLETE: Final = 0o400
_FAILED: Final = 0

_PIECE: Final = 256 * 1024

_Directory = Callable[[], AbstractContextManager[int]]


class Part(io.FileIO):
    """What only this object may write, at its end; whoever follows it reads along.

    *opened* and *locked* give the directory. Calls may come from several threads and wait for
    each other, so that nobody closes what another one writes to. It is a file as aiofiles wants
    it, but `FileIO` must not know its descriptors: it would close them once more in the end.
    """

    def __init__(
        self, key: str, data: int, maker: int, opened: _Directory, locked: _Directory
    ) -> None:
        self._key = key
        self._data = data
        self._maker = maker
        self._opened = opened
        self._locked = locked
        self._lock = threading.Lock()
        self._buffer = memoryview(bytearray(_PIECE))
        self._size = 0
        self._is_complete = False
        self._is_closed = False

    def write(self, data: Any) -> int:
        """Write all of the buffer *data* at the end; raise OSError."""
        with self._lock:
            return self._write(memoryview(data).cast("B"))

    def append_from(self, source: Descriptor, count: int) -> None:
        """Copy the first *count* bytes of another file; raise ValueError if it has fewer."""
        # Twice as fast here as sendfile from a memfd to ext4, which goes page by page.
        with self._lock, source.held() as fd:
            for position in range(0, count, _PIECE):
                piece = self._buffer[: min(_PIECE, count - position)]
                if os.preadv(fd, (piece,), position) != len(piece):
                    raise ValueError(f"the file has fewer than {count} bytes")
                self._write(piece)

    def finish(self, size: int) -> None:
        """Make it an entry; ValueError if it has not got all of the *size* bytes appended."""
        with self._lock:
            if self._is_closed or self._size != size:
                raise ValueError(f"{self._size} of {size} bytes were written")
            now = time.time_ns()
            os.utime(self._data, ns=(now, now))
            os.fchmod(self._data, COMPLETE)  # the followers' last byte waits for nothing below
            # Or a loss of power could leave an entry that has its name and not all of its bytes.
            os.fdatasync(self._data)
            with self._locked() as directory:
                # Not there: somebody removed it by hand. Those who follow it have it all.
                with suppress(FileNotFoundError):
                    os.rename(
                        f"part-{self._key}", self._key, src_dir_fd=directory, dst_dir_fd=directory
                    )
                self._unlink(directory, f"maker-{self._key}")
            self._is_complete = True

    def withdraw(self) -> bool:
        """Let nobody begin to follow it; return False if somebody does, or it is complete."""
        with self._lock:
            if self._is_complete:
                return False
            return self._is_closed or try_lock(self._data, fcntl.LOCK_EX)

    def close(self) -> None:
        """Let go of it; what is not finished is gone, and broken for those who follow it."""
        with self._lock:
            self._is_closed = True
            try:
                if not self._is_complete:
                    self._discard()
            finally:
                os.close(self._data)
                os.close(self._maker)

    def _discard(self) -> None:
        take_back(self._data)  # first: it does not depend on the directory
        with self._opened() as directory:
            self._unlink(directory, f"part-{self._key}")
            # Last: nobody begins the entry again, under the same names, while this one is there.
            self._unlink(directory, f"maker-{self._key}")

    def _unlink(self, directory: int, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)

    def _write(self, data: memoryview) -> int:
        if self._is_closed:
            raise ValueError("the entry is no longer made")
        left = data
        while left:
            written = os.write(self._data, left)
            self._size += written
            left = left[written:]
        return data.nbytes


def try_lock(fd: int, kind: int) -> bool:
    """Whether the lock could be had without waiting; it lasts until *fd* is closed."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_made(maker: Descriptor) -> bool:
    """Whether the maker with that file lives; its lock ends with it, however it ends."""
    if try_lock(maker.fd, fcntl.LOCK_SH):
        fcntl.flock(maker.fd, fcntl.LOCK_UN)
        return False
    return True


def look(data: Descriptor) -> tuple[int, int]:
    """The state and the size; when it is complete, that is the whole size."""
    state = stat.S_IMODE(os.fstat(data.fd).st_mode)
    return state, os.fstat(data.fd).st_size  # one call would not say which of both it read first


def take_back(data: int) -> None:
    """Tell followers that there will be no more, and free the bytes even if they stay."""
    os.fchmod(data, _FAILED)
    os.ftruncate(data, 0)
