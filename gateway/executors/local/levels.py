"""The directories that a walk stands in: a few of them open, the others parked."""

import errno
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import islice

from gateway.domain.errors import Unavailable
from gateway.system.resolver import Resolver
from gateway.system.verdicts import verdict

MOST_OPEN = 8
MOST_NAMES = 32_768  # of one directory in memory; a larger one is scanned again for the rest
MOST_HELD = 2 * MOST_NAMES  # of all levels

CUT_SHORT = "the workspace cannot be read on"
GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_CLOSED = frozenset({errno.EACCES, errno.EPERM, errno.EXDEV})
_NO_NAME = frozenset({errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ})  # as in `VERDICTS`

_SORTED_AT_ONCE = 4_096  # a sort holds the GIL: 1 ms for so many, 10 ms for all

Scan = Generator[None, None, tuple[list[bytes], bool]]


@dataclass(slots=True)
class Level:
    """A directory on the way down, called *name* in the one above; b"" is the base.

    A parked level has no descriptor and no path, and if there were too many, no names.
    """

    name: bytes
    identity: tuple[int, int]
    fd: int = -1
    parts: tuple[bytes, ...] = ()
    scan: Scan | None = None
    names: Iterator[bytes] | None = None
    held: int = 0  # how many names that keeps in memory
    last: bytes = b""  # a new scan starts behind it
    cut_at: bytes | None = None  # the last of `names`, if the directory has more


class Levels:
    """A stack of directories, the lowest is *base*, reached by *parts*; all are closed together.

    The descriptor *base* stays the caller's.
    """

    def __init__(self, resolver: Resolver, base: int, parts: tuple[bytes, ...]) -> None:
        self._resolver = resolver
        self._base = base
        self._parts = parts
        self._stack: list[Level] = []
        self._held = 0

    def __len__(self) -> int:
        return len(self._stack)

    def close(self) -> None:
        """Close every descriptor but the base's."""
        while self._stack:
            self._pop()

    def start(self, last: bytes) -> None:
        """Enter the base at the names behind *last*; raise its verdict if that cannot be done."""
        try:
            self._push(os.dup(self._base), b"", self._parts, last)
        except OSError as exc:
            raise verdict(exc) from exc

    def enter(self, name: bytes, last: bytes = b"") -> None:
        """Enter *name* in the top directory, at the names behind *last*.

        Raises OSError and changes nothing if *name* is `GONE`, a mount point, unreadable, or none
        that the file system can hold, and `Unavailable` if it cannot be told.
        """
        above = self._stack[-1]
        try:
            fd = self._resolver.enter(above.fd, name)
            self._push(fd, name, (*above.parts, name), last)
        except OSError as exc:
            if exc.errno in GONE | _CLOSED | _NO_NAME:
                raise
            raise Unavailable(CUT_SHORT) from exc
        above.last = name
        if len(self._stack) > MOST_OPEN:
            _park(self._stack[-1 - MOST_OPEN])

    def top(self) -> tuple[int, tuple[bytes, ...], Iterator[bytes]] | None:
        """The top directory's descriptor, path and names to come.

        None if the work is not done yet, or the directory is there no more: then ask again, unless
        no level is left. Raises `Unavailable` if it cannot be read on: a listing must not end early
        unnoticed.
        """
        level = self._stack[-1]
        try:
            if level.fd < 0:
                self._open_again()
                return None
            if level.names is None and not self._has_scanned(level):
                return None
        except OSError as exc:
            if exc.errno not in GONE:
                raise Unavailable(CUT_SHORT) from exc
            self._pop()
            return None
        assert level.names is not None
        return level.fd, level.parts, level.names

    def read_on(self) -> None:
        """Go on when the top's names are used up: with its next ones, or in the one below."""
        level = self._stack[-1]
        if level.cut_at is None:
            self._pop()
            return
        level.last = level.cut_at
        self._forget(level)

    def _push(self, fd: int, name: bytes, parts: tuple[bytes, ...], last: bytes) -> None:
        try:
            identity = _identity(fd)
        except OSError:
            os.close(fd)
            raise
        self._stack.append(Level(name, identity, fd, parts, last=last))

    def _pop(self) -> None:
        level = self._stack.pop()
        self._forget(level)
        if level.scan is not None:
            level.scan.close()
        if level.fd >= 0:
            os.close(level.fd)

    def _has_scanned(self, level: Level) -> bool:
        """Scan on; whether that was the last piece."""
        if level.scan is None:
            level.scan = names_behind(level.fd, level.last)
        try:
            next(level.scan)
        except StopIteration as done:
            names, is_cut = done.value
        else:
            return False
        level.scan = None
        level.names, level.held = iter(names), len(names)
        level.cut_at = names[-1] if is_cut else None
        self._held += level.held
        if self._held > MOST_HELD:
            self._make_room()
        return True

    def _make_room(self) -> None:
        """Forget what comes last; so much that this is seldom needed."""
        for level in self._stack[:-1]:
            if self._held <= MOST_HELD // 2:
                return
            self._forget(level)

    def _forget(self, level: Level) -> None:
        level.names = None
        self._held -= level.held
        level.held = 0

    def _open_again(self) -> None:
        """Open the topmost levels, all of them parked, on one way up from the base.

        Those that are there no more are left, with all above them.
        """
        above, is_kept = self._base, True
        for number, level in enumerate(self._stack, 1):
            try:
                fd = self._entered_again(above, level)
            except OSError as exc:
                if exc.errno not in GONE:
                    raise
                while len(self._stack) >= number:
                    self._pop()
                return
            finally:
                if not is_kept:
                    os.close(above)
            above, is_kept = fd, number > len(self._stack) - MOST_OPEN
            if is_kept:
                level.fd = fd
                level.parts = (*self._parts, *(each.name for each in self._stack[1:number]))

    def _entered_again(self, above: int, level: Level) -> int:
        fd = self._resolver.enter(above, level.name) if level.name else os.dup(above)
        try:
            if _identity(fd) != level.identity:
                raise FileNotFoundError(errno.ENOENT, "another directory took its place")
        except OSError:
            os.close(fd)
            raise
        return fd


def _park(level: Level) -> None:
    fd, level.fd = level.fd, -1
    level.parts = ()
    if fd >= 0:
        os.close(fd)


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def names_behind(directory: int, last: bytes) -> Scan:
    """Return the first `MOST_NAMES` names behind *last*, in order, and whether there are more.

    Yields now and then, for whoever has something else to do.
    """
    names: list[bytes] = []
    is_cut = False
    with os.scandir(b"/proc/self/fd/%d" % directory) as found:
        while piece := [item.name for item in islice(found, _SORTED_AT_ONCE)]:
            is_last = len(piece) < _SORTED_AT_ONCE
            piece = [name for name in piece if name > last]
            if is_cut:
                piece = [name for name in piece if name < names[-1]]
            piece.sort()
            names += piece
            names.sort()  # two sorted runs: a merge
            if len(names) > MOST_NAMES:
                del names[MOST_NAMES:]
                is_cut = True
            if is_last:
                break
            yield
    return names, is_cut
