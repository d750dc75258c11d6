"""Lists small directories again, that were listed just now, without waiting for anything."""

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from stat import S_ISLNK, S_ISREG
from time import monotonic, time_ns

from gateway.domain.model import Entry, Row, Rows
from gateway.domain.paths import WorkspacePath
from gateway.executors.local.opening import Opener
from gateway.executors.local.rows import row_of
from gateway.executors.local.tree import FIRST_BATCH

_MOST_WEIGHT = 8192  # in entries; a directory is as much as 16
_FRESH_S = 60.0  # what was read so long ago may have left the kernel's memory
_LARGEST = 64 * 1024  # bytes: one that had many names once takes long to read though it has few now
# The kernel's clock for time stamps stands still for up to 10 ms: what changes a directory in the
# tick in which it was read leaves no trace.
_SETTLED_NS = 1_000_000_000

State = tuple[int, int, int, int]
_Key = tuple[str, tuple[bytes, ...]]


@dataclass(slots=True)
class _Known:
    """A directory that may be listed inline; *entries* as it was last, if its names are certain."""

    state: State
    until: float
    weight: int
    entries: Rows | None = None


class RecentListings:
    """Directories that can be read on the loop: read lately, small, no links, unchanged since.

    A trip to the pool and back costs more than reading twenty entries that are in memory. What is
    remembered says only where that may be worth a try: others rename and write meanwhile, so the
    reading itself gives up at whatever could take long. The names of a directory whose state is
    the same are not read again; what has them is looked at every time.
    """

    def __init__(self, opener: Opener, clock: Callable[[], float] = monotonic) -> None:
        self._opener = opener
        self._clock = clock
        self._known: OrderedDict[_Key, _Known] = OrderedDict()
        self._weight = 0

    def listed(self, workspace: str, path: WorkspacePath) -> Rows | None:
        """The entries in order, the same object if they are the same; None if the pool has to read
        them.
        """
        known = self._known.get((workspace, path.parts))
        if known is None or self._clock() >= known.until:
            return None
        found = self._opener.found_inline(workspace, path)
        if found is None:
            return None
        try:
            return _entries(found, path, known) if _state(found) == known.state else None
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
        known = _Known(state, self._clock() + _FRESH_S, len(entries) + 16)
        before = self._known.pop((workspace, path.parts), None)
        self._known[workspace, path.parts] = known
        self._weight += known.weight - (before.weight if before else 0)
        while self._weight > _MOST_WEIGHT:
            self._weight -= self._known.popitem(last=False)[1].weight


def _state(directory: int) -> State | None:
    known = os.fstat(directory)
    if known.st_size > _LARGEST:
        return None
    return known.st_dev, known.st_ino, known.st_mtime_ns, known.st_ctime_ns


def _entries(directory: int, path: WorkspacePath, known: _Known) -> Rows | None:
    """Read a directory that is in its known state; None if it has a link, or too many names.

    Raises OSError.
    """
    last = known.entries
    if last is not None and _are_still(directory, last.rows):
        return last
    # Before the names are read: of what changes afterwards the state has to tell.
    is_settled = time_ns() - known.state[3] > _SETTLED_NS
    names = _names(directory) if last is None else [row[1] for row in last.rows]
    if len(names) > FIRST_BATCH:
        return None
    rows = []
    for name in names:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if S_ISLNK(found.st_mode):
            return None
        rows.append(row_of(path.parts, name, found))
    entries = Rows(rows)
    if is_settled:
        known.entries = entries
    return entries


def _are_still(directory: int, rows: list[Row]) -> bool:
    """Whether what *rows* name looks as they say; raise OSError if something is gone."""
    for row in rows:
        found = os.stat(row[1], dir_fd=directory, follow_symlinks=False)
        if found.st_mtime_ns != row[4] or found.st_mode != row[2]:
            return False
        if found.st_size != row[3] and S_ISREG(found.st_mode):
            return False
    return True


def _names(directory: int) -> list[bytes]:
    with os.scandir(b"/proc/self/fd/%d" % directory) as items:
        return sorted(item.name for item in islice(items, FIRST_BATCH + 1))
