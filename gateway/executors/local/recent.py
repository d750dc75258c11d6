"""Remembers small directories that were just listed: to list them again waits for nothing."""

import os
from collections import OrderedDict
from time import monotonic

from gateway.domain.paths import WorkspacePath
from gateway.executors.local.opening import Opener

_MOST = 1024
_FRESH_S = 60.0  # what was read so long ago may have left the kernel's memory

_State = tuple[int, int, int, int]
_Key = tuple[str, WorkspacePath]


class RecentListings:
    """Which directories can be read on the loop: read lately, small, no links, unchanged since.

    A trip to the pool and back costs more than reading twenty entries that are in memory. A
    directory that has changed may have become large, or hold a link that takes long to follow; it
    is read in the pool again.
    """

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._states: OrderedDict[_Key, tuple[_State, float]] = OrderedDict()

    def has(self, workspace: str, path: WorkspacePath) -> bool:
        """Whether the directory is as it was when it was remembered."""
        state, until = self._states.get((workspace, path), (None, 0.0))
        return state is not None and monotonic() < until and state == self._state(workspace, path)

    def remember(self, workspace: str, path: WorkspacePath) -> None:
        """Note that the directory has been read completely, and quickly."""
        state = self._state(workspace, path)
        if state is None:
            return
        self._states[workspace, path] = state, monotonic() + _FRESH_S
        self._states.move_to_end((workspace, path))
        if len(self._states) > _MOST:
            self._states.popitem(last=False)

    def _state(self, workspace: str, path: WorkspacePath) -> _State | None:
        found = self._opener.found_inline(workspace, path)
        if found is None:
            return None
        try:
            known = os.fstat(found)
        finally:
            os.close(found)
        return known.st_dev, known.st_ino, known.st_mtime_ns, known.st_ctime_ns
