"""The walk through a workspace: by descriptors, in order, in flat memory whatever the tree."""

import os
from collections.abc import Callable, Generator
from stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG
from time import monotonic

from gateway.domain.errors import PathRefused, Unavailable
from gateway.domain.model import Entry, Kind
from gateway.domain.paths import WorkspacePath
from gateway.executors.base import Selection
from gateway.executors.local.levels import CUT_SHORT, GONE, Levels
from gateway.executors.local.resolver import Resolver, open_directory
from gateway.executors.local.verdicts import VERDICTS

FIRST_BATCH = 64
BATCH = 500
TURN_S = 0.05

_KINDS = {S_IFREG: Kind.FILE, S_IFDIR: Kind.DIRECTORY}
_NOT_READABLE = "not readable"


def walk_batches(
    resolver: Resolver,
    open_session: Callable[[], int],
    path: WorkspacePath,
    *,
    depth: int,
    after: WorkspacePath | None,
    selection: Selection | None,
) -> Generator[list[Entry], None, None]:
    """Yield what `Executor.walk` yields, and an empty batch now and then; to be run in a pool.

    A batch ends after so many entries *seen*, and after `TURN_S`, whatever the tree and the
    selection: so a walk that finds little can be left, and another can have the thread.
    """
    session = open_session()
    try:
        levels = Levels(resolver, open_directory(resolver, session, path.parts), path.parts)
        try:
            if (yield from _start(levels, path, depth, after, selection)):
                yield from _batches(levels, resolver, session, depth, selection)
            else:
                yield []
        finally:
            levels.close()
    finally:
        os.close(session)


def _start(
    levels: Levels,
    path: WorkspacePath,
    depth: int,
    after: WorkspacePath | None,
    selection: Selection | None,
) -> Generator[list[Entry], None, bool]:
    """Stand right behind *after*; return False if everything below *path* is before it."""
    steps: tuple[bytes, ...] = ()
    if after is not None and after > path:
        if after.parts[: len(path.parts)] != path.parts:
            return False
        steps = after.parts[len(path.parts) :]
    levels.start(steps[0] if steps else b"")
    until = monotonic() + TURN_S
    below = path
    for name, last in zip(steps[: depth - 1], (*steps[1:], b""), strict=False):
        if monotonic() > until:
            yield []
            until = monotonic() + TURN_S
        below = below.child(name)
        if selection is not None and selection.excludes(below, True):
            break
        try:
            levels.enter(name, last)
        except OSError:  # a file, a link, gone, unreadable: nothing of it comes behind `after`
            break
    return True


def _batches(
    levels: Levels,
    resolver: Resolver,
    session: int,
    depth: int,
    selection: Selection | None,
) -> Generator[list[Entry], None, None]:
    # Every entry comes through this loop, so it calls nothing and looks up nothing it need not.
    stat, now, file = os.stat, monotonic, Kind.FILE
    batch: list[Entry] = []
    room, until = FIRST_BATCH, now() + TURN_S
    while levels:
        if now() > until:
            yield batch
            batch, room, until = [], BATCH, now() + TURN_S
        top = levels.top()
        if top is None:
            continue
        fd, parts, names = top
        for name in names:
            if not room or now() > until:
                yield batch
                batch, room, until = [], BATCH, now() + TURN_S
            room -= 1
            path = WorkspacePath((*parts, name))
            try:
                found = stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            except OSError:
                entry = Entry(path, Kind.UNKNOWN, None, 0, 0, problem=_NOT_READABLE)
            else:
                kind = S_IFMT(found.st_mode)
                if kind == S_IFDIR:
                    if selection is not None and selection.excludes(path, True):
                        continue
                    problem = None
                    entered = len(levels) < depth
                    if entered:
                        try:
                            levels.enter(name)
                        except OSError as exc:
                            if exc.errno in GONE:
                                continue
                            entered, problem = False, _NOT_READABLE
                    if selection is None or selection.lists(path, True):
                        batch.append(described(path, found, problem=problem))
                    if entered:
                        break
                    continue
                if kind == S_IFLNK:
                    entry = _link(resolver, session, path, found)
                elif kind == S_IFREG:
                    mode = found.st_mode & 0o7777
                    size, mtime_ns = found.st_size, found.st_mtime_ns
                    entry = Entry(path, file, size, mtime_ns, mode)
                else:
                    entry = described(path, found)
            if selection is not None:
                is_directory = entry.kind is Kind.DIRECTORY
                if selection.excludes(path, is_directory) or not selection.lists(
                    path, is_directory
                ):
                    continue
            batch.append(entry)
        else:
            levels.read_on()
    yield batch


def _link(resolver: Resolver, session: int, path: WorkspacePath, own: os.stat_result) -> Entry:
    """A link as what it leads to; as a link if that is outside, nowhere, or not to be seen.

    Raises `Unavailable` if that cannot be told.
    """
    try:
        fd = resolver.follow(session, path.parts)
        try:
            return described(path, os.fstat(fd), is_link=True)
        finally:
            os.close(fd)
    except OSError as exc:
        if exc.errno not in VERDICTS:
            raise Unavailable(CUT_SHORT) from exc
    except PathRefused:
        pass
    return Entry(path, Kind.SYMLINK, 0, own.st_mtime_ns, own.st_mode & 0o7777, True)


def described(
    path: WorkspacePath, found: os.stat_result, *, is_link: bool = False, problem: str | None = None
) -> Entry:
    """The entry that a listing has for what *found* says."""
    kind = _KINDS.get(S_IFMT(found.st_mode), Kind.OTHER)
    return Entry(
        path,
        kind,
        found.st_size if kind is Kind.FILE else 0,
        found.st_mtime_ns,
        found.st_mode & 0o7777,
        is_link,
        problem=problem,
    )
