"""Where the jobs of an archive find the bodies of its members."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from itertools import accumulate
from typing import Any, Protocol

from gateway.archive.jobs import MOST_BYTES, Job, Step
from gateway.archive.plan import Plan
from gateway.domain.archives import Bodies, Member
from gateway.domain.errors import GatewayError, StreamBroken

_FETCHES = 8  # bodies that are under way for one archive


class Body(Protocol):
    """The open body of a member."""

    def chunks(self, first: int, count: int | None) -> AsyncIterator[bytes]:
        """Yield exactly *count* bytes from position *first*, or raise `StreamBroken`."""


class Source(Protocol):
    """What `executors.streams.Members` is, as far as an archive needs it."""

    @property
    def bodies(self) -> Bodies | None:
        """Where another process finds them."""

    def open(self, member: Member) -> AbstractAsyncContextManager[Body]:
        """Open the body of a member."""


class Loader(AbstractAsyncContextManager["Loader"]):
    """Makes jobs of steps, which have to come in order.

    What another process cannot find by itself is fetched into memory: the members of one job.
    """

    def __init__(self, plan: Plan, source: Source) -> None:
        self._plan = plan
        self._source = source
        self._pieces: AsyncGenerator[bytes, None] | None = None
        self._room = asyncio.Semaphore(_FETCHES)

    async def __aexit__(self, *exc: object) -> None:
        if self._pieces is not None:
            await self._pieces.aclose()

    async def load(self, step: Step) -> tuple[Job, int]:
        """The job, and the descriptor that it reads from, which is the caller's.

        Raises `StreamBroken` for a body that cannot be had any more.
        """
        members = self._plan.members[step.begin : step.end]
        bodies = self._source.bodies
        if self._plan.manifest is not None and step.end == len(self._plan.members):
            memory = os.memfd_create("manifest", os.MFD_CLOEXEC)
            os.write(memory, self._plan.manifest)
            return self._job(step, members, [0]), memory
        if bodies is None:
            offsets = [*accumulate((member.size for member in members), initial=-step.first)]
            memory = os.memfd_create("bodies", os.MFD_CLOEXEC)
            try:
                await self._fetch(step, members, offsets, memory)
            except BaseException:
                os.close(memory)
                raise
            return self._job(step, members, offsets), memory
        if bodies.resolver is None:
            places: Sequence[Any] = bodies.offsets[step.begin : step.end]
        else:
            places = [member.parts for member in members]
        return self._job(step, members, places, bodies.resolver), os.dup(bodies.descriptor)

    def _job(
        self,
        step: Step,
        members: Sequence[Member],
        places: Sequence[Any],
        resolver: tuple[str, str | None] | None = None,
    ) -> Job:
        names = self._plan.names[step.begin : step.end]
        parts = [
            (place, step.first, step.length if step.is_piece else member.size, name, tuple(member))
            for place, name, member in zip(places, names, members, strict=False)
        ]
        return Job(self._plan.format.value, self._plan.stored, resolver, parts)

    async def _fetch(
        self, step: Step, members: Sequence[Member], offsets: Sequence[int], memory: int
    ) -> None:
        names = self._plan.names[step.begin : step.end]
        if step.is_piece:
            with _naming(names[0]):
                os.pwrite(memory, await self._next_piece(step, members[0]), 0)
            return
        broken: list[Exception] = []
        try:
            async with asyncio.TaskGroup() as group:
                for member, name, offset in zip(members, names, offsets, strict=False):
                    if member.size:
                        group.create_task(self._fetch_member(member, name, memory, offset))
        except* (StreamBroken, OSError) as failures:
            broken += failures.exceptions
        if broken:
            raise broken[0]

    async def _fetch_member(self, member: Member, name: str, memory: int, offset: int) -> None:
        end = offset + member.size
        with _naming(name):
            async with self._room, self._source.open(member) as body:
                async for chunk in body.chunks(0, member.size):
                    offset += os.pwrite(memory, chunk, offset)
            if offset != end:
                raise StreamBroken("it has another size")

    async def _next_piece(self, step: Step, member: Member) -> bytes:
        if step.first == 0:
            self._pieces = self._read_pieces(member)
        assert self._pieces is not None
        piece = await anext(self._pieces, b"")
        if len(piece) != step.length:
            raise StreamBroken("it has another size")
        if step.first + step.length == member.size:
            await self._pieces.aclose()
        return piece

    async def _read_pieces(self, member: Member) -> AsyncGenerator[bytes, None]:
        """The member in pieces of the size that steps have."""
        async with self._source.open(member) as body:
            piece = bytearray()
            async for chunk in body.chunks(0, member.size):
                piece += chunk
                while len(piece) >= MOST_BYTES:
                    yield bytes(piece[:MOST_BYTES])
                    del piece[:MOST_BYTES]
            yield bytes(piece)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Let `StreamBroken` say of which member what is raised is."""
    try:
        yield
    except (GatewayError, StreamBroken) as exc:
        raise StreamBroken(f"{name}: {exc}") from exc
