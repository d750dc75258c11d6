"""Builds an archive: its jobs are done side by side, and what they make is written in order."""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import aclosing
from functools import partial
from itertools import chain
from typing import NamedTuple, Protocol

from gateway.archive import compress, tar
from gateway.archive import zip as records
from gateway.archive.bodies import Loader, Source
from gateway.archive.helpers import Helpers
from gateway.archive.jobs import MOST_BYTES, MOST_MEMBERS, Changed, Packet, Step, cut
from gateway.archive.memory import Memory
from gateway.archive.plan import Plan
from gateway.domain.archives import Format, Member
from gateway.domain.errors import StreamBroken

_AT_ONCE = 6  # jobs of one archive
_FIRST_BYTES = 64 << 10  # of the members of the first job, for which the reader waits


class Sink(Protocol):
    """Where an archive is written."""

    async def append(self, data: bytes) -> None:
        """Write *data* behind what is there."""

    async def append_from(self, descriptor: int, count: int) -> None:
        """Write the first *count* bytes of a file behind what is there."""


async def build(plan: Plan, source: Source, helpers: Helpers, sink: Sink) -> None:
    """Write the archive that *plan* describes to *sink*; raise `StreamBroken` if it cannot be."""
    writer = (_Zip if plan.format is Format.ZIP else _Tar)(plan, sink)
    try:
        if plan.format is Format.TAR_GZ:
            await sink.append(compress.GZIP_HEADER)
        async with aclosing(_packets(plan, source, helpers)) as packets:
            async for made in packets:
                await writer.write(made)
        await writer.end()
    except OSError as exc:  # no memory, or no descriptor, for what is under way
        raise StreamBroken(f"the archive cannot be made: {exc.strerror}") from exc


def _steps(members: Sequence[Member]) -> Iterator[Step]:
    """The members in groups, and the large ones in pieces."""
    begin, size = 0, 0
    for index, member in enumerate(members):
        is_large = member.size > MOST_BYTES
        most = MOST_BYTES if begin else _FIRST_BYTES
        if is_large or size + member.size > most or index - begin >= MOST_MEMBERS:
            if index > begin:
                yield Step(begin, index)
            begin, size = index, 0
        if is_large:
            for first, count in cut(member.size):
                yield Step(index, index + 1, first, count)
            begin = index + 1
        else:
            size += member.size
    if len(members) > begin:
        yield Step(begin, len(members))


class _Made(NamedTuple):
    step: Step
    descriptor: int
    packet: Packet


async def _packets(plan: Plan, source: Source, helpers: Helpers) -> AsyncGenerator[_Made, None]:
    """Yield what the jobs make, in order; its file is used again after the next one is asked for.

    Whoever leaves earlier may still have somebody read it.
    """
    steps = _steps(plan.members if plan.manifest is None else plan.members[:-1])
    if plan.manifest is not None:
        steps = chain(steps, [Step(len(plan.members) - 1, len(plan.members))])
    under_way: deque[tuple[Step, Future[tuple[int, Packet]]]] = deque()
    try:
        async with Loader(plan, source) as loader:
            while True:
                while len(under_way) < _AT_ONCE and (step := next(steps, None)):
                    under_way.append((step, helpers.submit(*await loader.load(step))))
                if not under_way:
                    return
                step, coming = under_way[0]
                try:
                    made, packet = await asyncio.wrap_future(coming)
                except Changed as exc:
                    raise StreamBroken(f"{exc}: it has changed") from exc
                under_way.popleft()
                try:
                    yield _Made(step, made, packet)
                except BaseException:
                    helpers.memory.let_go(made)
                    raise
                helpers.memory.give_back(made)
    finally:
        for _, coming in under_way:
            coming.cancel()
            coming.add_done_callback(partial(_give_back, helpers.memory))


def _give_back(memory: Memory, done: "Future[tuple[int, Packet]]") -> None:
    if not done.cancelled() and done.exception() is None:
        memory.give_back(done.result()[0])


class _Writer(ABC):
    """What is written around the packets of a format."""

    def __init__(self, plan: Plan, sink: Sink) -> None:
        self._plan = plan
        self._sink = sink

    @abstractmethod
    async def write(self, made: _Made) -> None:
        """Write one, and what belongs around it."""

    @abstractmethod
    async def end(self) -> None:
        """Write what makes the archive complete."""


class _Zip(_Writer):
    def __init__(self, plan: Plan, sink: Sink) -> None:
        super().__init__(plan, sink)
        self._offset = 0
        self._streamed_at = 0
        self._streamed = records.EMPTY
        self._directory: list[bytes] = []

    async def write(self, made: _Made) -> None:
        step, packet = made.step, made.packet
        if step.is_piece:
            await self._write_piece(made)
            return
        members = self._plan.members[step.begin : step.end]
        names = self._plan.names[step.begin : step.end]
        for member, name, values in zip(members, names, packet.bodies, strict=True):
            body = records.Body(*values)
            self._note(name.encode(), member, body, self._offset, streamed=False)
            self._offset += records.local_size(name.encode(), member) + body.compressed
        await self._sink.append_from(made.descriptor, packet.length)

    async def _write_piece(self, made: _Made) -> None:
        """The pieces of one member become one body."""
        step = made.step
        member, name = self._plan.members[step.begin], self._plan.names[step.begin].encode()
        if step.first == 0:
            self._streamed_at, self._streamed = self._offset, records.EMPTY
            await self._append(records.streamed_header(name, member))
        before = self._streamed
        ((_, crc, compressed, size),) = made.packet.bodies
        self._streamed = records.Body(
            records.DEFLATED,
            compress.crc32_of_both(before.crc, crc, size),
            before.compressed + compressed,
            before.size + size,
        )
        await self._sink.append_from(made.descriptor, made.packet.length)
        self._offset += made.packet.length
        if self._streamed.size == member.size:
            self._note(name, member, self._streamed, self._streamed_at, streamed=True)
            await self._append(records.descriptor(member, self._streamed))

    async def end(self) -> None:
        directory = b"".join(self._directory)
        end = records.end_records(len(self._directory), len(directory), self._offset)
        await self._sink.append(directory)
        await self._sink.append(end)

    def _note(
        self, name: bytes, member: Member, body: records.Body, offset: int, *, streamed: bool
    ) -> None:
        self._directory.append(
            records.central_header(name, member, body, offset, streamed=streamed)
        )

    async def _append(self, data: bytes) -> None:
        await self._sink.append(data)
        self._offset += len(data)


class _Tar(_Writer):
    def __init__(self, plan: Plan, sink: Sink) -> None:
        super().__init__(plan, sink)
        self._crc = 0
        self._size = 0

    async def write(self, made: _Made) -> None:
        for _, crc, _, size in made.packet.bodies:
            self._crc = compress.crc32_of_both(self._crc, crc, size)
            self._size += size
        await self._sink.append_from(made.descriptor, made.packet.length)

    async def end(self) -> None:
        match self._plan.format:
            case Format.TAR_GZ:
                crc = compress.crc32(tar.END, self._crc)
                size = self._size + len(tar.END)
                pieces = compress.deflate_piece(tar.END, last=True, stored=False)
                await self._sink.append(b"".join((*pieces, compress.gzip_trailer(crc, size))))
            case Format.TAR_ZST:
                await self._sink.append(compress.zstd_frame(tar.END))
            case _:
                await self._sink.append(tar.END)
