"""Members from a backend's native tar: drained at full speed, checked, and kept on the disk.

A tar that is passed on at the pace of a client would hold a backend for as long (Docker locks the
container until it is read), and one that was cut short would look complete: HTTP knows no better.
"""

from asyncio import wrap_future
from bisect import bisect_left
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from operator import attrgetter
from typing import Final

from isal import igzip_lib

from gateway.domain.archives import Bodies, Member, Skipped
from gateway.domain.errors import PathNotFound, ProtocolFault, StreamBroken, TimedOut
from gateway.domain.model import Entry, Kind
from gateway.domain.paths import WorkspacePath
from gateway.executors.engines.spooled import Spool, SpooledFile
from gateway.executors.engines.tar_links import Parts
from gateway.executors.engines.tar_reader import TarReader
from gateway.executors.engines.tar_tree import Place, Tree
from gateway.executors.streams import FileStream, Members, Packed
from gateway.executors.within import within

_PIECE: Final = 1024 * 1024  # bytes of an inflated piece
_WORTH_IT: Final = 256 * 1024


class TarStream:
    """Members of the tars that it is given, one for each directory that is to be packed.

    A backend may be silent for *idle_s*. *root* is as in `Links`.
    """

    def __init__(
        self, packed: Packed, spool: Spool, idle_s: float, root: Parts | None = None
    ) -> None:
        self._tree = Tree(packed, root)
        self._idle_s = idle_s
        self._spool = spool
        self._pool = spool.pool
        self._stored = 0

    async def take(
        self,
        chunks: AsyncIterator[bytes],
        place: Place,
        *,
        is_gzip: bool = False,
        made: str | None = None,
    ) -> None:
        """Drain one tar, to its proven end.

        A last file *made* (a name), of the beginning of time, is the backend's own and left out.
        Raises `TooLarge`, what `Spool.write` raises, `TimedOut`, `ProtocolFault` and `Unsupported`.
        """
        self._tree.begin(place)
        reader = TarReader(self._tree, self._stored)
        pieces = self._joined(chunks)
        try:
            async for piece in self._inflated(pieces) if is_gzip else pieces:
                for part in await wrap_future(self._pool.submit(reader.feed, piece)):
                    await self._spool.write(part)
        except StreamBroken as exc:
            raise ProtocolFault("the executor's answer was cut short") from exc
        reader.end()
        self._stored = reader.stored
        if made is not None and reader.last is not None and reader.last.mtime_ns == 0:
            parts = place.parts(reader.last.path)
            if parts == (*place.base.parts, made.encode()):
                self._tree.forget(parts)

    async def members(self, source: str) -> Members:
        """What all the tars hold; raises `TooLarge` for what links make of it, `ProtocolFault`."""
        await self._spool.flush()
        members, offsets = await wrap_future(self._pool.submit(self._tree.members))
        return _TarMembers(source, members, offsets, self._tree.skipped, self._spool)

    async def _inflated(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        inflater = _Inflater()
        async for piece in pieces:
            data = piece
            while plain := await wrap_future(self._pool.submit(inflater.take, data)):
                yield plain
                data = b""
        inflater.end()

    async def _joined(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same bytes in pieces that are worth a visit to a thread."""
        waiting: list[bytes] = []
        count = 0
        while chunk := await self._next(chunks):
            waiting.append(chunk)
            count += len(chunk)
            if count >= _WORTH_IT:
                yield b"".join(waiting)
                waiting, count = [], 0
        if waiting:
            yield b"".join(waiting)

    async def _next(self, chunks: AsyncIterator[bytes]) -> bytes:
        try:
            return await within(self._idle_s, _first_of(chunks))
        except TimeoutError as exc:
            raise TimedOut("the executor fell silent") from exc


class _Inflater:
    """Inflates gzip, of one member or several, at most 1 MiB at a time."""

    def __init__(self) -> None:
        self._inflating = _gunzip()
        self._rest = b""

    def take(self, data: bytes) -> bytes:
        """The next of what *data*, and all before it, holds; nothing if that takes more data."""
        self._rest += data
        pieces, room = [], _PIECE
        while room:
            if self._rest and self._inflating.eof:
                self._inflating = _gunzip()
            if not self._rest and (self._inflating.eof or self._inflating.needs_input):
                break
            try:
                piece = self._inflating.decompress(self._rest, room)
            except igzip_lib.IsalError as exc:  # type: ignore[misc]  # the stub has it as a value
                raise ProtocolFault("the executor's gzip is malformed") from exc
            self._rest = self._inflating.unused_data
            room -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def end(self) -> None:
        """Raise `ProtocolFault` unless all that was taken is whole."""
        if not self._inflating.eof:
            raise ProtocolFault("the executor's answer was cut short")


def _gunzip() -> igzip_lib.IgzipDecompressor:
    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)


class _TarMembers(Members):
    """Members whose bodies are in a temporary file."""

    def __init__(
        self,
        source: str,
        members: Sequence[Member],
        offsets: Sequence[int],
        skipped: Skipped,
        spool: Spool,
    ) -> None:
        self.source = source
        self.members = members
        self.skipped = skipped
        self.bodies = Bodies(spool.file.fd, None, offsets)
        self._spool = spool

    @asynccontextmanager
    async def open(self, member: Member) -> AsyncIterator[FileStream]:
        """Open the body of a member: it is here already, and does not change."""
        assert self.bodies is not None
        number = bisect_left(self.members, member.parts, key=attrgetter("parts"))
        if self.members[number : number + 1] != [member]:
            raise PathNotFound("file not found")
        _, _, size, mtime_ns, mode, version = member
        told = None if version is None else str(version)
        path = WorkspacePath(member.parts)
        entry = Entry(path, Kind.FILE, size, mtime_ns, mode, version=told)
        yield SpooledFile(self.source, entry, self._spool, self.bodies.offsets[number])


async def _first_of(chunks: AsyncIterator[bytes]) -> bytes:
    return await anext(chunks, b"")
