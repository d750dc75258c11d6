"""An archive that is made here, as a stream for whoever asked for it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing

from gateway.archive.archiver import Archiver
from gateway.archive.direct import Direct
from gateway.archive.plan import Plan
from gateway.archive.spool import Spooled
from gateway.domain.errors import (
    ArchiveFailed,
    GatewayError,
    Outage,
    StreamBroken,
    Unavailable,
    WorkspaceChanged,
)
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
        self.skipped = members.skipped.count
        self._plan = plan
        self._members = members
        self._archiver = archiver
        self._owner = owner
        self._reading = reading
        self._made: Spooled | Direct
        self._build: asyncio.Task[None] | None = None

    async def look(self) -> None:
        """Learn the length if that takes no work: it is there already, or not compressed."""
        self.entry = self.entry._replace(size=await self._archiver.length(self._plan))

    async def prepare(self, *, whole: bool) -> None:
        """Have it made, or found; wait for its first byte, or with *whole* for its length.

        Raises `WorkspaceChanged`, `ArchiveFailed`, `TooManyRequests`, or an `Outage` of the
        executor.
        """
        while True:
            await self._obtain()
            try:
                size = await self._size_of(self._made, whole=whole)
            except StreamBroken as exc:
                if isinstance(self._made, Direct):
                    raise _verdict(exc) from exc
                await self._why_not()
                await self._reading.aclose()
                continue
            if size is not None:
                self.entry = self.entry._replace(size=size)
            return

    async def _obtain(self) -> None:
        obtained = await self._archiver.obtain(self._plan, self._members, self._owner)
        self.spool, self._made, self._build = obtained.result, obtained.made, obtained.build
        await self._reading.enter_async_context(self._made)

    async def _why_not(self) -> None:
        """Raise why this process could not make it; return if it was another that died of it."""
        if self._build is None:
            return
        try:
            await asyncio.shield(self._build)
        except StreamBroken as exc:
            raise _verdict(exc) from exc
        except GatewayError as exc:
            raise ArchiveFailed(exc.message) from exc
        except TimeoutError as exc:
            raise ArchiveFailed("it took too long") from exc

    async def _size_of(self, made: Spooled | Direct, *, whole: bool) -> int | None:
        if isinstance(made, Direct):
            self.seekable = False
            return await made.measure() if whole else made.size
        if whole:
            await made.completed()
        else:
            await made.beyond(0)
        self.descriptor = made.descriptor
        return made.size if made.is_complete else self.entry.size

    async def reach(self, position: int) -> int:
        """Wait until there is a byte at *position*, or all of it; return how many there are."""
        assert isinstance(self._made, Spooled)  # it has a descriptor
        return await self._made.beyond(position)

    async def read(self, first: int, count: int) -> bytes:
        """Return exactly *count* bytes from position *first*."""
        return b"".join([chunk async for chunk in self.chunks(first, count)])

    async def chunks(self, first: int, count: int | None) -> AsyncGenerator[bytes, None]:
        """Yield exactly *count* bytes from position *first*; None: all there will be."""
        pieces = (
            self._made.chunks(first, count)
            if isinstance(self._made, Direct)
            else self._followed(self._made, first, count)
        )
        async with aclosing(pieces):  # a build ends before what it reads from is closed
            async for piece in pieces:
                yield piece

    async def _followed(
        self, made: Spooled, first: int, left: int | None
    ) -> AsyncGenerator[bytes, None]:
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


def _verdict(broken: StreamBroken) -> GatewayError:
    """What to say of an archive that broke off before anything was said."""
    match broken.__cause__:
        case Outage() as outage:
            return outage
        case StreamBroken():
            return Unavailable("the executor broke off")
        case _:
            return WorkspaceChanged()
