"""Lists small directories again, that were listed just now, without waiting for anything."""

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice
from stat import S_ISLNK
from time import monotonic

from gateway.domain.model import Entry, Rows
from gateway.domain.paths import WorkspacePath
from gateway.executors.local.opening import Opener
from gateway.executors.local.rows import row_of
from gateway.executors.local.tree import FIRST_BATCH

_MOST = 1024
_FRESH_S = 60.0  # what was read so long ago may have left the kernel's memory
_LARGEST = 64 * 1024  # bytes: one that had many names once takes long to read though it has few now

State = tuple[int, int, int, int]
_Key = tuple[str, WorkspacePath]


class RecentListings:
    """Directories that can be read on the loop: read lately, small, no links, unchanged since.

    A trip to the pool and back costs more than reading twenty entries that are in memory. What is
    remembered says only where that may be worth a try: others rename and write meanwhile, so the
    reading itself gives up at whatever could take long.
    """

    def __init__(self, opener: Opener, clock: Callable[[], float] = monotonic) -> None:
        self._opener = opener
        self._clock = clock
        self._states: OrderedDict[_Key, tuple[State, float]] = OrderedDict()

    def listed(self, workspace: str, path: WorkspacePath) -> Rows | None:
        """The entries in order; None if the pool has to read them."""
        state, until = self._states.get((workspace, path), (None, 0.0))
        if state is None or self._clock() >= until:
            return None
        found = self._opener.found_inline(workspace, path)
        if found is None:
            return None
        try:
            return _entries(found, path) if _state(found) == state else None
        except OSError:
            return None
        finally:
            os.close(found)

    def state(self, workspace: str, path: WorkspacePath) -> State | None:
        """What the directory is before the pool reads it; None if it will not be remembered."""
        found = self._opener.found_inline(workspace, path)
        if found is None:
            return None
        try:
            return _state(found)
        except OSError:
            return None
        finally:
            os.close(found)

    def remember(
        self, workspace: str, path: WorkspacePath, state: State, entries: Sequence[Entry]
    ) -> None:
        """Note that *entries* are all there is in the directory that was in *state* before."""
        if len(entries) > FIRST_BATCH or any(entry.is_link for entry in entries):
            return
        self._states[workspace, path] = state, self._clock() + _FRESH_S
        self._states.move_to_end((workspace, path))
        if len(self._states) > _MOST:
            self._states.popitem(last=False)


def _state(directory: int) -> State | None:
    known = os.fstat(directory)
    if known.st_size > _LARGEST:
        return None
    return known.st_dev, known.st_ino, known.st_mtime_ns, known.st_ctime_ns


def _entries(directory: int, path: WorkspacePath) -> Rows | None:
    """Read a directory; None if it has too many names, or a link. Raises OSError."""
    with os.scandir(b"/proc/self/fd/%d" % directory) as items:
        names = [item.name for item in islice(items, FIRST_BATCH + 1)]
    if len(names) > FIRST_BATCH:
        return None
    rows = []
    for name in sorted(names):
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if S_ISLNK(found.st_mode):
            return None
        rows.append(row_of(path.parts, name, found))
    return Rows(rows)
