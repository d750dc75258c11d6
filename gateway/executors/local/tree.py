"""The walk through a workspace: by descriptors, in order, in flat memory whatever the tree."""

import os
from collections.abc import Generator
from dataclasses import dataclass
from stat import S_IRGRP, S_IROTH, S_IRUSR, S_ISDIR, S_ISLNK, S_ISREG
from time import monotonic
from typing import TYPE_CHECKING

from gateway.domain.errors import GatewayError, PathRefused, Unavailable
from gateway.domain.model import Row
from gateway.domain.paths import WorkspacePath
from gateway.executors.local.levels import CUT_SHORT, GONE, Levels
from gateway.executors.local.rows import row_of
from gateway.system.mounts import mounted_names
from gateway.system.resolver import Resolver, open_file
from gateway.system.states import state_of
from gateway.system.verdicts import VERDICTS

if TYPE_CHECKING:  # the helper process has no use for what this imports
    from gateway.executors.streams import Selection

FIRST_BATCH = 64
BATCH = 500
TURN_S = 0.05

_NOT_READABLE = "not readable"
_ALL_READ = S_IRUSR | S_IRGRP | S_IROTH


@dataclass(frozen=True, slots=True)
class Area:
    """What to walk: *depth* levels of *base*, which lies at *parts* in *session*.

    Both are descriptors that stay the caller's. With *for_archive* files have versions, and those
    that cannot be opened a problem.
    """

    session: int
    base: int
    parts: tuple[bytes, ...]
    depth: int
    for_archive: bool = False


def walk_rows(
    resolver: Resolver,
    area: Area,
    after: tuple[bytes, ...] | None,
    selection: "Selection | None" = None,
) -> Generator[list[Row], None, None]:
    """Yield what lies in *area* behind the path *after*, and an empty batch now and then.

    A batch ends after so many entries *seen*, and after `TURN_S`, whatever the tree and the
    selection: so a walk that finds little can be left, and another can have the thread.
    """
    levels = Levels(resolver, area.base, area.parts)
    walker = _Walker(resolver, area, levels, selection)
    try:
        if (yield from walker.start(after)):
            yield from walker.batches()
        else:
            yield []
    finally:
        levels.close()


class _Walker:
    """Walks on from where *levels* stands."""

    def __init__(
        self, resolver: Resolver, area: Area, levels: Levels, selection: "Selection | None"
    ) -> None:
        self._resolver = resolver
        self._area = area
        self._levels = levels
        self._selection = selection
        self._mounted = mounted_names() if area.for_archive else frozenset()

    def start(self, after: tuple[bytes, ...] | None) -> Generator[list[Row], None, bool]:
        """Stand right behind *after*; return False if everything in the area is before it."""
        below, depth = self._area.parts, self._area.depth
        steps: tuple[bytes, ...] = ()
        if after is not None and after > below:
            if after[: len(below)] != below:
                return False
            steps = after[len(below) :]
        self._levels.start(steps[0] if steps else b"")
        until = monotonic() + TURN_S
        for name, last in zip(steps[: depth - 1], (*steps[1:], b""), strict=False):
            if monotonic() > until:
                yield []
                until = monotonic() + TURN_S
            below = (*below, name)
            if self._excludes(below, True):
                break
            try:
                self._levels.enter(name, last)
            except OSError:  # a file, a link, gone, unreadable: nothing of it comes behind `after`
                break
        return True

    def batches(self) -> Generator[list[Row], None, None]:
        """Yield the rest. Every entry comes through here: it does nothing that it need not."""
        levels, lstat, now, is_file = self._levels, os.lstat, monotonic, S_ISREG
        takes_all, is_listed = self._selection is None, not self._area.for_archive
        seems_readable = self._seems_readable
        batch: list[Row] = []
        room, until = FIRST_BATCH, now() + TURN_S
        while levels:
            if now() > until:
                yield batch
                batch, room, until = [], BATCH, now() + TURN_S
            top = levels.top()
            if top is None:
                continue
            fd, above, names = top
            for name in names:
                if not room or now() > until:
                    yield batch
                    batch, room, until = [], BATCH, now() + TURN_S
                room -= 1
                try:
                    found = lstat(name, dir_fd=fd)
                except FileNotFoundError:
                    continue
                except OSError:
                    found = None
                if (
                    found is not None
                    and takes_all
                    and is_file(mode := found.st_mode)
                    and (is_listed or seems_readable(fd, name, mode))
                ):
                    size, mtime_ns = found.st_size, found.st_mtime_ns
                    version = None if is_listed else state_of(found)
                    batch.append((above, name, mode, size, mtime_ns, False, None, version))
                    continue
                row, entered = self._visit(fd, above, name, found)
                if row and (takes_all or self._selects(row)):
                    batch.append(row)
                if entered:
                    break
            else:
                levels.read_on()
        yield batch

    def _visit(
        self, fd: int, above: tuple[bytes, ...], name: bytes, found: os.stat_result | None
    ) -> tuple[Row | None, bool]:
        """The row of an entry, None if it is gone; and whether a directory was entered."""
        if found is None:
            return (above, name, 0, None, 0, False, _NOT_READABLE, None), False
        if S_ISLNK(found.st_mode):
            return self._link(above, name, found), False
        if self._area.for_archive and S_ISREG(found.st_mode):
            return self._archived(above, name, found, fd), False
        if not S_ISDIR(found.st_mode) or len(self._levels) >= self._area.depth:
            return row_of(above, name, found), False
        if self._excludes((*above, name), True):
            return None, False
        try:
            self._levels.enter(name)
        except OSError as exc:
            if exc.errno in GONE:
                return None, False
            return row_of(above, name, found, problem=_NOT_READABLE), False
        return row_of(above, name, found), True

    def _link(self, above: tuple[bytes, ...], name: bytes, own: os.stat_result) -> Row:
        """A link as what it leads to; as a link if that is outside, nowhere, or not to be seen.

        Raises `Unavailable` if that cannot be told.
        """
        try:
            fd = self._resolver.follow(self._area.session, (*above, name))
            try:
                found = os.fstat(fd)
                if self._area.for_archive and S_ISREG(found.st_mode):
                    return self._archived(above, name, found, None)
                return row_of(above, name, found, is_link=True)
            finally:
                os.close(fd)
        except OSError as exc:
            if exc.errno not in VERDICTS:
                raise Unavailable(CUT_SHORT) from exc
        except PathRefused:
            pass
        return row_of(above, name, own, is_link=True)

    def _archived(
        self, above: tuple[bytes, ...], name: bytes, found: os.stat_result, directory: int | None
    ) -> Row:
        """The row of a file in *directory*; None: a link that is there leads to it."""
        is_link = directory is None
        is_readable = (
            directory is not None and self._seems_readable(directory, name, found.st_mode)
        ) or (self._opens((*above, name)))
        problem = None if is_readable else _NOT_READABLE
        version = state_of(found)
        return row_of(above, name, found, is_link=is_link, problem=problem, version=version)

    def _seems_readable(self, directory: int, name: bytes, mode: int) -> bool:
        """Whether the file can be opened for all that is known; if not, opening it tells.

        The kernel may be wrong there: an old seccomp profile forbids to ask for the effective ids.
        """
        if name in self._mounted:
            return False
        return mode & _ALL_READ == _ALL_READ or os.access(
            name, os.R_OK, dir_fd=directory, effective_ids=True, follow_symlinks=False
        )

    def _opens(self, parts: tuple[bytes, ...]) -> bool:
        try:
            fd, _ = open_file(self._resolver, self._area.session, parts)
        except Unavailable:
            raise
        except GatewayError:
            return False
        os.close(fd)
        return True

    def _excludes(self, parts: tuple[bytes, ...], is_directory: bool) -> bool:
        selection = self._selection
        return selection is not None and selection.excludes(WorkspacePath(parts), is_directory)

    def _selects(self, row: Row) -> bool:
        path, is_directory = WorkspacePath((*row[0], row[1])), S_ISDIR(row[2])
        return not self._excludes(path.parts, is_directory) and (
            self._selection is None or self._selection.lists(path, is_directory)
        )
