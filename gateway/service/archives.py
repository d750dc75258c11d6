"""Archive a workspace, for whoever may."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from gateway.domain.archives import ArchiveBounds, Packing
from gateway.domain.errors import Unsupported
from gateway.domain.model import Principal, Scope, SessionId
from gateway.executors.base import EVERYTHING, ArchiveStream, Packed, Wanted
from gateway.service.access import authorize
from gateway.service.placement import Placement
from gateway.service.selection import Selector

audit = structlog.get_logger("audit")


class Archives:
    """The use cases around archives of workspaces."""

    def __init__(self, placement: Placement, bounds: ArchiveBounds) -> None:
        self._placement = placement
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
        pattern that is none.
        """
        authorize(principal, session_id, Scope.ARCHIVES_READ)
        selection = Selector.parse(None, packing.exclude)
        packed = Packed(packing, self.bounds, selection, wanted)
        executor = self._placement.executor_of(session_id)
        async with executor.archive(session_id, packed) as archive:
            if not isinstance(archive, ArchiveStream):
                raise Unsupported("the executor makes no archives")
            audit.info(
                "audit.archive",
                key_id=principal.key_id,
                org=principal.org,
                session_id=session_id,
                format=packing.format.value,
                paths=[path.rooted for path in packing.paths],
            )
            yield archive
