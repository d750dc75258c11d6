"""A tree as the guest script lists it: checked line by line, a page for each life of a machine."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from gateway.domain.errors import GatewayError, Outage, ProtocolFault, StreamBroken
from gateway.domain.model import Entry, Kind
from gateway.domain.paths import LONGEST_PATH, WorkspacePath
from gateway.executors.firecracker.names import checked_name, decoded
from gateway.executors.streams import Selection, Walk

MOST_ENTRIES = 20_000  # of a page, in memory
_BATCH = 64  # entries judged by a selection in one turn of the loop
_LARGEST = 2**63 - 1
_LINE = re.compile(r"([fdDou]) ([0-9]{1,19}) (-?[0-9]{1,19}) ([0-7]{1,4}) ([A-Za-z0-9+/]+={0,2})\n")
_LAST = re.compile(r"\. ([a-z]{1,16})\n\Z")
_KINDS = {
    "f": Kind.FILE,
    "d": Kind.DIRECTORY,
    "D": Kind.DIRECTORY,  # could not be entered
    "o": Kind.OTHER,
    "u": Kind.UNKNOWN,
}
# Behind every name there can be: a name has at most 255 bytes.
_BEHIND_ALL = b"\xff" * 256


@dataclass(frozen=True, slots=True)
class Page:
    """Entries in order, and the guest's last word; it was `more` if there are further ones."""

    entries: Sequence[Entry]
    word: str


Ask = Callable[[WorkspacePath], Awaitable[Page]]
"""Asks for the page whose entries come behind that path."""


def parse(base: WorkspacePath, after: WorkspacePath | None, depth: int, text: str) -> Page:
    """What the guest has written of the tree below *base*; raise `ProtocolFault` for anything else.

    Every path is legal, at most *depth* levels below *base*, and behind *after* and the one before.
    """
    entries: list[Entry] = []
    position, previous = 0, max(after or base, base)
    floor = len(base.parts) + depth
    while found := _LINE.match(text, position):
        entry = _entry(base, found)
        if (
            not previous < entry.path
            or len(entry.path.parts) > floor
            or len(entries) == MOST_ENTRIES
        ):
            raise ProtocolFault("the executor lists what was not asked for")
        entries.append(entry)
        previous, position = entry.path, found.end()
    last = _LAST.match(text, position)
    if last is None:
        raise ProtocolFault("the executor's listing is cut short")
    return Page(entries, last[1])


def _entry(base: WorkspacePath, found: re.Match[str]) -> Entry:
    kind, size, mtime_ns, mode, name = found.groups()
    names = (checked_name(part) for part in decoded(name).split(b"/"))
    path = WorkspacePath((*base.parts, *names))
    if int(size) > _LARGEST or abs(int(mtime_ns)) > _LARGEST or len(path.raw) > LONGEST_PATH:
        raise ProtocolFault("the executor lists what cannot be")
    entry = Entry(path, _KINDS[kind], int(size), int(mtime_ns), int(mode, 8))
    if kind == "u":
        entry = entry._replace(size=None, mtime_ns=None)
    return entry._replace(problem="not readable") if kind in "Du" else entry


class TreeWalk(Walk):
    """Goes through pages, of which the *first* is there already, and asks for the next ones."""

    def __init__(
        self,
        source: str,
        base: WorkspacePath,
        first: Page,
        ask: Ask,
        selection: Selection | None,
    ) -> None:
        self.source = source
        self._base = base
        self._page = first
        self._ask = ask
        self._selection = selection
        self._excluded: WorkspacePath | None = None  # the last directory that is not entered

    async def __aiter__(self) -> AsyncIterator[Sequence[Entry]]:
        page = self._page
        while True:
            for first in range(0, len(page.entries), _BATCH):
                batch = [e for e in page.entries[first : first + _BATCH] if self._lists(e)]
                if batch:
                    yield batch
                await asyncio.sleep(0)
            if page.word != "more":
                return
            if not page.entries:
                raise ProtocolFault("the executor's listing does not advance")
            page = await self._next(page.entries[-1].path)

    async def _next(self, last: WorkspacePath) -> Page:
        try:
            return await self._ask(past_excluded(self._base, last, self._selection))
        except Outage:
            raise
        except GatewayError as exc:
            raise StreamBroken("the directory went while it was listed") from exc

    def _lists(self, entry: Entry) -> bool:
        selection = self._selection
        if selection is None:
            return True
        path, is_directory = entry.path, entry.kind is Kind.DIRECTORY
        if self._excluded is not None and _is_below(path, self._excluded):
            return False
        if selection.excludes(path, is_directory):
            self._excluded = path if is_directory else self._excluded
            return False
        return selection.lists(path, is_directory)


def seen_from(base: WorkspacePath, after: WorkspacePath | None) -> WorkspacePath:
    """*after* as a path in *base*: the root if all there comes behind *after*, or the very end."""
    if after is None or after <= base:
        return WorkspacePath.ROOT
    if _is_below(after, base):
        return WorkspacePath(after.parts[len(base.parts) :])
    return WorkspacePath((_BEHIND_ALL,))


def past_excluded(
    base: WorkspacePath, after: WorkspacePath, selection: Selection | None
) -> WorkspacePath:
    """*after*, or the end of the excluded directory below *base* that it is, or lies in."""
    if selection is not None and _is_below(after, base):
        for count in range(len(base.parts) + 1, len(after.parts) + 1):
            directory = WorkspacePath(after.parts[:count])
            if selection.excludes(directory, True):
                return directory.child(_BEHIND_ALL)
    return after


def _is_below(path: WorkspacePath, directory: WorkspacePath) -> bool:
    return path.parts[: len(directory.parts)] == directory.parts
