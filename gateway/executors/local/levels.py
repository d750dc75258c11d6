"""The directories that a walk stands in: a few of them open, the others parked."""

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from gateway.domain.errors import Unavailable
from gateway.executors.local.resolver import Resolver
from gateway.executors.local.verdicts import verdict

MOST_OPEN = 8
MOST_NAMES = 32_768  # of one directory in memory; a larger one is scanned again for the rest

_SORTED_AT_ONCE = 4_096  # a sort holds the GIL: 1 ms for so many, 10 ms for all
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_CUT_SHORT = "the workspace cannot be read on"


@dataclass(slots=True)
class Level:
    """A directory on the way down; a parked one has no descriptor, no path and no names."""

    name: bytes
    identity: tuple[int, int]
    fd: int = -1
    parts: tuple[bytes, ...] = ()
    names: Iterator[bytes] | None = None
    last: bytes = b""  # a new scan starts behind it
    cut_at: bytes | None = None  # the last of `names`, if the directory has more


class Levels:
    """A stack of directories, the lowest is *base*, reached by *parts*; all are closed together."""

    def __init__(self, resolver: Resolver, base: int, parts: tuple[bytes, ...]) -> None:
        self._resolver = resolver
        self._base = base
        self._parts = parts
        self._stack: list[Level] = []

    def __len__(self) -> int:
        return len(self._stack)

    def close(self) -> None:
        """Close every descriptor."""
        while self._stack:
            self.pop()
        os.close(self._base)

    def pop(self) -> None:
        """Leave the top directory."""
        fd = self._stack.pop().fd
        if fd >= 0:
            os.close(fd)

    def start(self, last: bytes) -> None:
        """Enter the base at the names behind *last*; raise its verdict if it cannot be read."""
        try:
            self._push(os.dup(self._base), b"", self._parts, last)
        except OSError as exc:
            raise verdict(exc) from exc

    def enter(self, name: bytes, last: bytes = b"") -> None:
        """Enter *name* in the top directory, at the names behind *last*.

        Raises OSError and changes nothing if *name* is a link, a mount point, or unreadable.
        """
        above = self._stack[-1]
        fd = self._resolver.enter(above.fd, name)
        self._push(fd, name, (*above.parts, name), last)
        above.last = name
        if len(self._stack) > MOST_OPEN:
            _park(self._stack[-1 - MOST_OPEN])

    def top(self) -> tuple[int, tuple[bytes, ...], Iterator[bytes]] | None:
        """The top directory's descriptor, path and names to come; None if it is there no more.

        Raises `Unavailable` if it cannot be read on: a listing must not end early unnoticed.
        """
        level = self._stack[-1]
        if level.names is None:
            try:
                level.names = self._names_again(level)
            except OSError as exc:
                if exc.errno not in _GONE:
                    raise Unavailable(_CUT_SHORT) from exc
                self.pop()
                return None
        return level.fd, level.parts, level.names

    def read_on(self) -> None:
        """Go on when the top's names are used up: with its next ones, or in the one below."""
        level = self._stack[-1]
        if level.cut_at is None:
            self.pop()
            return
        level.last = level.cut_at
        level.names = None

    def _push(self, fd: int, name: bytes, parts: tuple[bytes, ...], last: bytes) -> None:
        level = Level(name, (0, 0), fd, parts, last=last)
        try:
            level.identity = _identity(fd)
            level.names = _scan(level)
        except OSError:
            os.close(fd)
            raise
        self._stack.append(level)

    def _names_again(self, level: Level) -> Iterator[bytes]:
        if level.fd < 0:
            self._open_again()
        if _identity(level.fd) != level.identity:
            raise FileNotFoundError(errno.ENOENT, "another directory took its place")
        level.parts = (*self._parts, *(each.name for each in self._stack[1:]))
        return _scan(level)

    def _open_again(self) -> None:
        """Open the topmost levels, all of them parked, on one way up from the base."""
        above, is_kept = self._base, True
        for number, level in enumerate(self._stack, 1 - len(self._stack)):
            try:
                fd = self._resolver.enter(above, level.name) if level.name else os.dup(above)
            finally:
                if not is_kept:
                    os.close(above)
            above, is_kept = fd, number > -MOST_OPEN
            if is_kept:
                level.fd = fd


def _park(level: Level) -> None:
    fd, level.fd = level.fd, -1
    level.parts, level.names = (), None
    if fd >= 0:
        os.close(fd)


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def _scan(level: Level) -> Iterator[bytes]:
    names, is_cut = names_behind(level.fd, level.last)
    level.cut_at = names[-1] if is_cut else None
    return iter(names)


def names_behind(directory: int, last: bytes) -> tuple[list[bytes], bool]:
    """The first `MOST_NAMES` names behind *last*, in order, and whether there are more."""
    names: list[bytes] = []
    is_cut = False
    with os.scandir(b"/proc/self/fd/%d" % directory) as found:
        while piece := [item.name for item in islice(found, _SORTED_AT_ONCE)]:
            piece = [name for name in piece if name > last]
            if is_cut:
                piece = [name for name in piece if name < names[-1]]
            piece.sort()
            names += piece
            names.sort()  # two sorted runs: a merge
            if len(names) > MOST_NAMES:
                del names[MOST_NAMES:]
                is_cut = True
    return names, is_cut
