"""A walk that another gateway does: its listings, page after page, entry by checked entry."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from datetime import UTC, datetime

from gateway.domain.errors import ProtocolFault, StreamBroken
from gateway.domain.model import Entry, Kind
from gateway.domain.paths import WorkspacePath, text_to_name
from gateway.executors.engines.reply import Reply
from gateway.executors.gateway.document import Document, Row
from gateway.executors.streams import Selection, Walk

TOO_DEEP = "too deep to be entered; list it by its own path"
_NOT_READABLE = "not readable"
_MODES = {False: 0o644, True: 0o755}  # where none is told
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER_A_NAME = frozenset({b"", b".", b".."})

Page = Callable[[WorkspacePath | None], AbstractAsyncContextManager[Reply]]
"""Asks for the listing behind a path; None: from the beginning."""


class GatewayWalk(Walk):
    """Yields what the pages list: below *path*, in order, not deeper than *depth* levels."""

    def __init__(
        self,
        source: str,
        page: Page,
        path: WorkspacePath,
        *,
        depth: int,
        after: WorkspacePath | None,
        selection: Selection | None,
    ) -> None:
        self.source = source
        self._page = page
        self._path = path
        self._floor = len(path.parts) + depth
        self._after = after if after is not None and after > path else None
        self._selection = selection
        self._last = path
        self._excluded = self._excluded_above(self._after)
        self._begun: Sequence[Row] | None = None
        self._coming: AsyncIterator[Sequence[Row]]

    @asynccontextmanager
    async def begun(self) -> AsyncIterator["GatewayWalk"]:
        """Have the first entries come, so that whatever is wrong can still be another answer."""
        async with aclosing(self._rows()) as coming:
            self._coming = coming
            try:
                self._begun = await anext(coming, None)
            except StreamBroken as exc:
                raise ProtocolFault(str(exc)) from exc
            yield self

    async def __aiter__(self) -> AsyncIterator[Sequence[Entry]]:
        rows = self._begun
        while rows:
            batch = [entry for row in rows if (entry := self._judged(row)) is not None]
            if batch:
                yield batch
            await asyncio.sleep(0)
            rows = await anext(self._coming, None)

    async def _rows(self) -> AsyncGenerator[Sequence[Row], None]:
        # Only a path below the listed one makes a cursor; whatever else is passed over here.
        behind = self._after
        if behind is not None and behind.parts[: len(self._path.parts)] != self._path.parts:
            behind = None
        has_more = True
        while has_more:
            goes_on = False
            async with self._page(behind) as reply:
                document = Document(reply)
                async for rows in document.batches():
                    goes_on = True
                    yield rows  # and when it is asked for the next, these have been judged
            behind, has_more = self._last, document.has_more
            if has_more and not goes_on:
                raise ProtocolFault("the executor's listing does not go on")

    def _judged(self, row: Row) -> Entry | None:
        """The entry, None if it is not wanted; raise `ProtocolFault` where it may not stand."""
        path = self._below(row.path)
        if path <= self._last:
            raise ProtocolFault("the executor's listing is out of order")
        self._last = path
        if self._after is not None and path <= self._after:
            return None
        if len(path.parts) > self._floor or self._excludes(path, row.is_dir):
            return None
        if self._selection is not None and not self._selection.lists(path, row.is_dir):
            return None
        moment = row.modified_at
        kind = Kind.DIRECTORY if row.is_dir else Kind.FILE
        if (told := row.kind or kind) is not kind:
            if Kind.DIRECTORY in (told, kind):
                raise ProtocolFault("the executor's listing contradicts itself")
            kind = told
        return Entry(
            path,
            kind,
            row.size if kind is Kind.FILE else 0,
            None if moment is None else int((moment - _EPOCH).total_seconds()) * 10**9,
            int(row.mode, 8) if row.mode else _MODES[row.is_dir],
            row.is_symlink,
            problem=self._problem(row, path),
        )

    def _below(self, text: str) -> WorkspacePath:
        # Not `WorkspacePath.parse`: a listing reaches further down than a path may tell, and has
        # names that no request may.
        names = tuple(text_to_name(text).split(b"/"))
        path = WorkspacePath(names[1:])
        depth = len(self._path.parts)
        if (
            names[0]
            or not _NEVER_A_NAME.isdisjoint(path.parts)
            or "\0" in text
            or len(path.parts) == depth
            or path.parts[:depth] != self._path.parts
        ):
            raise ProtocolFault("the executor's listing has a path that does not belong there")
        return path

    def _excluded_above(self, after: WorkspacePath | None) -> WorkspacePath | None:
        """The excluded directory, if it is one, in or at which the walk begins."""
        if after is None or self._selection is None:
            return None
        for depth in range(len(self._path.parts) + 1, len(after.parts) + 1):
            above = WorkspacePath(after.parts[:depth])
            if self._selection.excludes(above, True):
                return above
        return None

    def _excludes(self, path: WorkspacePath, is_directory: bool) -> bool:
        if self._selection is None:
            return False
        above = self._excluded
        if above is not None and path.parts[: len(above.parts)] == above.parts:
            return True
        excluded = self._selection.excludes(path, is_directory)
        if excluded and is_directory:
            self._excluded = path
        return excluded

    def _problem(self, row: Row, path: WorkspacePath) -> str | None:
        error = row.error
        if error is None or (row.is_dir and len(path.parts) == self._floor):
            return None  # that it was not entered is as it should be
        return TOO_DEEP if error == TOO_DEEP else _NOT_READABLE
