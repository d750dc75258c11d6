"""An archive that is made here, as a stream for whoever asked for it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from gateway.archive.archiver import Archiver
from gateway.archive.direct import Direct
from gateway.archive.plan import Plan
from gateway.archive.spool import Spooled
from gateway.domain.errors import ArchiveFailed, StreamBroken
from gateway.domain.model import Entry, Kind
from gateway.domain.paths import WorkspacePath
from gateway.executors.streams import ArchiveStream, Members
from gateway.system.reading import PIECE, Reader


class MadeArchive(ArchiveStream):
    """An archive by *plan* of *members*.

    *owner* holds what the members need; a build that begins takes that over, and may outlive this.
    What is being read is held by *reading*.
    """

    def __init__(
        self,
        plan: Plan,
        members: Members,
        archiver: Archiver,
        owner: AsyncExitStack,
        reading: AsyncExitStack,
    ) -> None:
        self.source = members.source
        self.fallback = members.fallback
        self.entry = Entry(WorkspacePath.ROOT, Kind.FILE, plan.size, None, 0o644, version=plan.key)
        self.entries = len(plan.members)
        self.uncompressed = plan.uncompressed
        self.skipped = members.skipped
        self._plan = plan
        self._members = members
        self._archiver = archiver
        self._owner = owner
        self._reading = reading
        self._made: Spooled | Direct | None = None

    async def prepare(self, *, whole: bool) -> None:
        """Have it made, or found; wait for its first byte, or with *whole* for its length.

        Raises `ArchiveFailed`, or `TooManyRequests`.
        """
        if self._made is None:
            self.spool, self._made = await self._archiver.obtain(
                self._plan, self._members, self._owner
            )
            if isinstance(self._made, Spooled):
                await self._reading.enter_async_context(self._made)
        try:
            size = await self._size_of(self._made, whole=whole)
        except StreamBroken as exc:
            raise ArchiveFailed("the archive could not be made: the workspace changed") from exc
        if size is not None:
            self.entry = self.entry._replace(size=size)

    async def _size_of(self, made: Spooled | Direct, *, whole: bool) -> int | None:
        if isinstance(made, Direct):
            self.seekable = False
            return await made.measure() if whole else made.size
        if whole:
            await made.completed()
        else:
            await made.beyond(0)
        if not made.is_complete:
            return self.entry.size
        self.descriptor = made.descriptor
        return made.size

    async def read(self, first: int, count: int) -> bytes:
        """Return exactly *count* bytes from position *first*."""
        return b"".join([chunk async for chunk in self.chunks(first, count)])

    async def chunks(self, first: int, count: int | None) -> AsyncIterator[bytes]:
        """Yield exactly *count* bytes from position *first*; None: all there will be."""
        assert self._made is not None, "it has to be prepared"
        pieces = (
            self._made.chunks(first, count)
            if isinstance(self._made, Direct)
            else self._followed(self._made, first, count)
        )
        async for piece in pieces:
            yield piece

    async def _followed(self, made: Spooled, first: int, left: int | None) -> AsyncIterator[bytes]:
        """The bytes of an entry that may still grow."""
        reader = Reader(made.file, self._archiver.readers)
        while left is None or left > 0:
            there = await made.beyond(first) - first
            if there <= 0:
                break
            count = min(there, PIECE) if left is None else min(there, PIECE, left)
            yield await reader.read(first, count)
            first += count
            left = None if left is None else left - count
        if left:
            raise StreamBroken("the archive is shorter than it was to be")
