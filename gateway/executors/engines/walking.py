"""Walks a workspace whose backend can list one directory at a time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from gateway.domain.errors import (
    NotADirectory,
    NotReadable,
    PathNotFound,
    PathRefused,
    Unsupported,
)
from gateway.domain.model import Entry, Kind
from gateway.domain.paths import WorkspacePath
from gateway.executors.streams import Selection, Walk

MOST_HELD = 200_000  # entries of all directories on the way down; one takes about 350 bytes
_BATCH = 64  # entries judged by a selection in one turn of the loop

ListDirectory = Callable[[WorkspacePath], Awaitable[Sequence[Entry]]]
"""Gives the direct children of a directory, in any order; raises what `Executor.walk` raises."""


class DirectoryWalk(Walk):
    """Goes down *depth* levels below *path*, whose own *children* have been listed already."""

    def __init__(
        self,
        source: str,
        path: WorkspacePath,
        children: Sequence[Entry],
        list_directory: ListDirectory,
        *,
        depth: int,
        after: WorkspacePath | None,
        selection: Selection | None,
    ) -> None:
        self.source = source
        self._floor = len(path.parts) + depth
        self._children = children
        self._list = list_directory
        self._after = after
        self._selection = selection

    async def __aiter__(self) -> AsyncIterator[Sequence[Entry]]:
        batch: list[Entry] = []
        judged = 0
        levels = [_reversed(self._children)]
        held = len(self._children)
        while levels:
            if not levels[-1]:
                levels.pop()
                continue
            entry = levels[-1].pop()
            held -= 1
            judged += 1
            if judged % _BATCH == 0:
                if batch:
                    yield batch
                    batch = []
                await asyncio.sleep(0)
            if self._is_passed(entry.path) or self._excludes(entry):
                continue
            if self._is_entered(entry):
                if batch:  # what is known already does not wait for the backend
                    yield batch
                    batch = []
                entry, children = await self._entered(entry)
                held += len(children)
                if held > MOST_HELD:
                    raise Unsupported("the executor's tree is too large to be listed at once")
                levels.append(_reversed(children))
            if self._lists(entry):
                batch.append(entry)
        if batch:
            yield batch

    async def _entered(self, entry: Entry) -> tuple[Entry, Sequence[Entry]]:
        try:
            return entry, await self._list(entry.path)
        except (PathNotFound, NotADirectory, NotReadable, PathRefused):
            # It went, changed, or cannot be read: that is said of it, and the listing goes on.
            return entry._replace(problem="not readable"), ()

    def _is_entered(self, entry: Entry) -> bool:
        is_directory = entry.kind is Kind.DIRECTORY and not entry.is_link and not entry.problem
        return is_directory and len(entry.path.parts) < self._floor

    def _is_passed(self, path: WorkspacePath) -> bool:
        """Whether nothing at or below *path* comes behind `after`."""
        after = self._after
        return after is not None and path < after and after.parts[: len(path.parts)] != path.parts

    def _excludes(self, entry: Entry) -> bool:
        selection = self._selection
        return selection is not None and selection.excludes(
            entry.path, entry.kind is Kind.DIRECTORY
        )

    def _lists(self, entry: Entry) -> bool:
        if self._after is not None and entry.path <= self._after:
            return False
        selection = self._selection
        return selection is None or selection.lists(entry.path, entry.kind is Kind.DIRECTORY)


def _reversed(entries: Sequence[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: entry.path, reverse=True)
