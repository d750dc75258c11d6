"""Files in memory that are used again: to get a new one's pages costs more than to fill them."""

import os
import threading

_KEPT = 12  # what two archives have under way


class Memory:
    """Descriptors of files in memory, for threads. What is in one from before means nothing."""

    def __init__(self) -> None:
        self._free = [_new() for _ in range(_KEPT)]
        self._lock = threading.Lock()
        self._is_closed = False

    def take(self) -> int:
        """A file that is the caller's: to be given back, or let go; raise OSError."""
        with self._lock:
            if self._free:
                return self._free.pop()
        return _new()

    def give_back(self, descriptor: int) -> None:
        """Take a file that nobody reads or writes any more."""
        with self._lock:
            if not self._is_closed and len(self._free) < _KEPT:
                self._free.append(descriptor)
                return
        os.close(descriptor)

    def let_go(self, descriptor: int) -> None:
        """Close a file that may still be in use; another one takes its place."""
        os.close(descriptor)
        self.give_back(_new())

    def close(self) -> None:
        """Keep no files any more."""
        with self._lock:
            self._is_closed = True
            free, self._free = self._free, []
        for descriptor in free:
            os.close(descriptor)


def _new() -> int:
    return os.memfd_create("packet", os.MFD_CLOEXEC)
