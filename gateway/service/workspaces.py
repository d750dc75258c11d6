"""List a workspace and open its files, for whoever may."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import NamedTuple, Self

import structlog

from gateway.domain import cursors
from gateway.domain.errors import FileTooLarge
from gateway.domain.model import Entry, Kind, Principal, Scope, SessionId, rows_of
from gateway.domain.paths import WorkspacePath
from gateway.executors.streams import EVERYTHING, FileStream, Selection, Wanted
from gateway.service.events import Ledger
from gateway.service.sessions import Sessions
from gateway.system.around import Around

audit = structlog.get_logger("audit")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one request may ask for: a file's bytes, a listing's entries, a tree's levels."""

    file: int
    list_entries: int
    depth: int


class Listed(NamedTuple):
    """What to list. *depth* None means as many levels, *limit* None as many entries as allowed."""

    path: WorkspacePath = WorkspacePath.ROOT
    depth: int | None = 1
    selection: Selection | None = None
    limit: int | None = None
    cursor: str | None = None


class Workspaces:
    """The use cases around workspace files."""

    def __init__(self, sessions: Sessions, ledger: Ledger, bounds: Bounds) -> None:
        self._sessions = sessions
        self._ledger = ledger
        self.bounds = bounds

    def open(
        self,
        principal: Principal,
        session_id: SessionId,
        path: WorkspacePath,
        wanted: Wanted = EVERYTHING,
    ) -> AbstractAsyncContextManager[FileStream]:
        """Open a file for download; raise `TooLarge` if it is over the limit, and all verdicts."""
        return _Download(
            self._sessions, self._ledger, self.bounds, principal, session_id, path, wanted
        )

    def listing(
        self, principal: Principal, session_id: SessionId, wanted: Listed
    ) -> AbstractAsyncContextManager["Listing"]:
        """Begin a listing; raise `BadParameter` for a cursor that is none, and all verdicts."""
        return Listing(self._sessions, self.bounds, principal, session_id, wanted)


class _Download(Around[FileStream]):
    """A file that is open for one download."""

    def __init__(
        self,
        sessions: Sessions,
        ledger: Ledger,
        bounds: Bounds,
        principal: Principal,
        session_id: SessionId,
        path: WorkspacePath,
        wanted: Wanted,
    ) -> None:
        self._sessions = sessions
        self._ledger = ledger
        self._most = bounds.file
        self._principal = principal
        self._session_id = session_id
        self._path = path
        self._wanted = wanted

    async def __aenter__(self) -> FileStream:
        principal = self._principal
        workspace = await self._sessions.workspace(principal, self._session_id, Scope.FILES_READ)
        self.inner = workspace.executor.open(workspace.reference, self._path, self._wanted)
        stream = await self._sessions.enter(workspace, self.inner)
        size = stream.entry.size
        if size is not None and size > self._most:
            await self.inner.__aexit__(None, None, None)
            refused = FileTooLarge(self._most)
            refused.source, refused.fallback = stream.source, stream.fallback
            raise refused
        path = self._path.rooted
        audit.info(
            "audit.download",
            key_id=principal.key_id,
            org=principal.org,
            session_id=workspace.session_id,
            path=path,
        )
        if self._wanted.downloads(stream.entry.version):
            download = {"path": path, "key_id": principal.key_id}
            self._ledger.note_download(workspace.session_id, download)
        return stream


class Listing(Around["Listing"], AsyncIterator[Sequence[Entry]]):
    """A listing under way: batches that are never empty, of not more entries than are allowed.

    Once it is exhausted, *next_cursor* and *truncated* are known.
    """

    # Not a generator: the loop keeps a list of those, which costs more than a short listing.

    def __init__(
        self,
        sessions: Sessions,
        bounds: Bounds,
        principal: Principal,
        session_id: SessionId,
        wanted: Listed,
    ) -> None:
        self._sessions = sessions
        self._most_levels = bounds.depth
        self._principal = principal
        self._session_id = session_id
        self._wanted = wanted
        self._left = bounds.list_entries if wanted.limit is None else wanted.limit
        # Directories at this level are not entered although that was asked for.
        self._floor = len(wanted.path.parts) + bounds.depth if wanted.depth is None else None
        self._before: Sequence[Entry] = ()
        self.next_cursor: str | None = None
        self.truncated = False

    async def __aenter__(self) -> Self:
        wanted = self._wanted
        workspace = await self._sessions.workspace(
            self._principal, self._session_id, Scope.FILES_READ
        )
        after = cursors.decode(wanted.cursor, wanted.path) if wanted.cursor is not None else None
        self.inner = workspace.executor.walk(
            workspace.reference,
            wanted.path,
            depth=wanted.depth or self._most_levels,
            after=after,
            selection=wanted.selection,
        )
        walk = await self._sessions.enter(workspace, self.inner)
        self.source = walk.source
        self.fallback = walk.fallback
        self._batches = aiter(walk)
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[Entry]:
        while self.next_cursor is None:
            batch = await self._batches.__anext__()
            count = len(batch)
            if count > self._left:
                batch, count = batch[: self._left], self._left
                last = (batch or self._before)[-1:]
                self.truncated |= self._wanted.limit is None
                self.next_cursor = cursors.encode(last[0].path) if last else None
            self._left -= count
            if count:
                self._before = batch
                return batch if self._floor is None else self._mark_unentered(batch, self._floor)
        raise StopAsyncIteration

    def _mark_unentered(self, batch: Sequence[Entry], floor: int) -> Sequence[Entry]:
        if all(len(row[0]) + 1 != floor for row in rows_of(batch)):
            return batch
        return [self._marked(e) if len(e.path.parts) == floor else e for e in batch]

    def _marked(self, entry: Entry) -> Entry:
        if entry.kind is not Kind.DIRECTORY or entry.is_link or entry.problem:
            return entry
        self.truncated = True
        return entry._replace(problem="too deep to be entered; list it by its own path")
