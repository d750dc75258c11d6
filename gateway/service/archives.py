"""Archive a workspace, for whoever may."""

from collections import Counter
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial

import structlog

from gateway.archive.archiver import Archiver
from gateway.archive.plan import Plan
from gateway.domain.archives import ArchiveBounds, Packing
from gateway.domain.errors import TooManyRequests
from gateway.domain.model import Principal, Scope, SessionId
from gateway.executors.streams import EVERYTHING, ArchiveStream, Members, Packed, Wanted
from gateway.service.events import Ledger
from gateway.service.gitignore import own_ignores
from gateway.service.made_archive import MadeArchive
from gateway.service.selection import Selector
from gateway.service.sessions import Sessions, Workspace
from gateway.service.sharing import Shared

audit = structlog.get_logger("audit")

_RETRY_AFTER_S = 5


@dataclass
class _Begun:
    """What goes into an archive, for all who ask; or an archive, which is for one that takes it."""

    found: tuple[Plan, Members] | ArchiveStream
    is_taken: bool = False


class Archives:
    """The use cases around archives of workspaces, of which *at_once* are served at a time.

    Those who ask for the same at the same time are served one: it is walked for once, too.
    """

    def __init__(
        self,
        sessions: Sessions,
        ledger: Ledger,
        bounds: ArchiveBounds,
        archiver: Archiver,
        at_once: int,
    ) -> None:
        self._sessions = sessions
        self._ledger = ledger
        self._archiver = archiver
        self._at_once = at_once
        self._served: Counter[Hashable] = Counter()  # by how many ask for it
        self._beginning: Shared[_Begun] = Shared()
        self.bounds = bounds

    @asynccontextmanager
    async def open(
        self,
        principal: Principal,
        session_id: SessionId,
        packing: Packing,
        wanted: Wanted = EVERYTHING,
    ) -> AsyncIterator[ArchiveStream]:
        """Begin an archive, which is not made before `prepare`.

        Entering raises all verdicts, `TooLarge` for what is out of bounds, `BadParameter` for a
        pattern that is none, `TooManyRequests`.
        """
        workspace = await self._sessions.workspace(principal, session_id, Scope.ARCHIVES_READ)
        selection = Selector.parse(None, packing.exclude)
        search = partial(own_ignores, packing=packing, bounds=self.bounds)
        packed = Packed(
            packing, self.bounds, selection, wanted, search if packing.gitignore else None
        )
        asked = workspace.executor, workspace.session_id, workspace.reference, packing
        with self._slot(asked):
            async with AsyncExitStack() as owner, AsyncExitStack() as reading:
                beginning = partial(self._begun, workspace, packed)
                begun = await owner.enter_async_context(self._beginning.entered(asked, beginning))
                if begun.is_taken:
                    await owner.aclose()  # it ends with who takes it, and its slot is free again
                    begun = await owner.enter_async_context(beginning())
                found = begun.found
                if isinstance(found, ArchiveStream):
                    begun.is_taken = True
                else:
                    plan, members = found
                    found = MadeArchive(plan, members, self._archiver, owner, reading)
                    if not wanted.content:
                        await found.look()
                paths = [path.rooted for path in packing.paths]
                audit.info(
                    "audit.archive",
                    key_id=principal.key_id,
                    org=principal.org,
                    session_id=workspace.session_id,
                    format=packing.format.value,
                    paths=paths,
                )
                if wanted.downloads(found.entry.version):
                    download = {
                        "archive": packing.format.value,
                        "paths": paths,
                        "key_id": principal.key_id,
                    }
                    self._ledger.note_download(workspace.session_id, download)
                yield found

    @asynccontextmanager
    async def _begun(self, workspace: Workspace, packed: Packed) -> AsyncIterator["_Begun"]:
        beginning = workspace.executor.archive(workspace.reference, packed)
        async with AsyncExitStack() as stack:
            found = await self._sessions.enter(workspace, beginning)
            stack.push_async_exit(beginning)
            if isinstance(found, ArchiveStream):
                yield _Begun(found)
                return
            origin = f"{found.source}/{workspace.reference}"
            skipped = found.skipped if packed.packing.manifest else None
            plan = await self._archiver.plan(origin, packed.packing, found.members, skipped)
            yield _Begun((plan, found))

    @contextmanager
    def _slot(self, asked: Hashable) -> Iterator[None]:
        if asked not in self._served and len(self._served) >= self._at_once:
            raise TooManyRequests(
                "archives_at_once", "too many archives are under way", _RETRY_AFTER_S
            )
        self._served[asked] += 1
        try:
            yield
        finally:
            self._served[asked] -= 1
            if not self._served[asked]:
                del self._served[asked]
