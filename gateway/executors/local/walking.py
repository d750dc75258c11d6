"""Walks for listings: short ones here and now, the rest of long ones in the helper process."""

import os
from collections.abc import Callable, Generator
from contextlib import closing

from gateway.domain.model import Row, Rows
from gateway.domain.paths import WorkspacePath
from gateway.executors.local.helper import Helper
from gateway.executors.local.tree import Area, walk_rows
from gateway.executors.streams import Selection
from gateway.system.helper import HelperLost
from gateway.system.resolver import Resolver, open_directory

_SHORT = 500  # entries: so few are found in the time that it takes another process to begin


def walk_batches(
    resolver: Resolver,
    open_session: Callable[[], int],
    path: WorkspacePath,
    *,
    depth: int,
    after: WorkspacePath | None,
    selection: Selection | None,
    helper: Helper | None = None,
    for_archive: bool = False,
) -> Generator[Rows, None, None]:
    """Yield what `Executor.walk` yields, and an empty batch now and then; to be run in a pool.

    *for_archive* is as in `Area`.
    """
    session = open_session()
    try:
        base = open_directory(resolver, session, path.parts)
        try:
            area = Area(session, base, path.parts, depth, for_archive)
            last = None if after is None else after.parts
            if helper is None or selection is not None:
                batches = walk_rows(resolver, area, last, selection)
            else:
                batches = _shared(resolver, area, last, helper)
            with closing(batches):
                for rows in batches:
                    yield Rows(rows)
        finally:
            os.close(base)
    finally:
        os.close(session)


def _shared(
    resolver: Resolver, area: Area, last: tuple[bytes, ...] | None, helper: Helper
) -> Generator[list[Row], None, None]:
    """As `walk_rows`, with most of a long walk done by *helper*.

    In this process, it would fight with the event loop for the GIL: at every entry it lets go of
    it for a microsecond, too short for the loop to get it. A walk can go on behind any entry, so
    whoever walks may change, also when the helper is lost.
    """
    count = 0
    with closing(walk_rows(resolver, area, last)) as here:
        for rows in here:
            yield rows
            last = _last(rows, last)
            count += len(rows)
            if count >= _SHORT:
                break
        else:
            return
    with closing(helper.walk_rows(area, last)) as there:
        try:
            for rows in there:
                yield rows
                last = _last(rows, last)
            return
        except HelperLost:
            pass
    yield from walk_rows(resolver, area, last)


def _last(rows: list[Row], before: tuple[bytes, ...] | None) -> tuple[bytes, ...] | None:
    return (*rows[-1][0], rows[-1][1]) if rows else before
