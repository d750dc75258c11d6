"""Those who ask for the same archive at the same time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.archive.archiver import Archiver
from gateway.domain.archives import ArchiveBounds, Format, Packing
from gateway.domain.model import Principal, Scope, SessionId
from gateway.executors.base import Archives as Ways
from gateway.executors.base import Executor
from gateway.service.archives import Archives
from gateway.service.events import Ledger
from gateway.service.placement import Placement
from gateway.service.sessions import Sessions
from gateway.store.store import opened
from gateway.system.background import Background
from tests.unit.executors.scripted import Archive, Scripted
from tests.unit.executors.test_guarded import guarded

CALLER = Principal("k", "acme", frozenset({Scope.ARCHIVES_READ}))
BOUNDS = ArchiveBounds(100, 1 << 20, 1 << 20, 8)


@asynccontextmanager
async def archives_of(executor: Executor, directory: Path) -> AsyncIterator[Archives]:
    async with (
        opened("sqlite://") as store,
        Ledger.running(store.events, Background()) as ledger,
        Archiver.running(str(directory / "spool"), 1 << 20, processes=1, most_builds=1) as archiver,
    ):
        yield Archives(Sessions(Placement(executor)), ledger, BOUNDS, archiver, 1)


async def test_one_that_a_backend_makes_ends_with_who_takes_it(tmp_path: Path) -> None:
    """The others begin their own when its slot is free, and nobody waits for them."""
    may_begin = asyncio.Event()

    async def begun() -> None:
        await may_begin.wait()

    made = Archive("x", [b"hello"])
    inner = Scripted("x", begun, archives=Ways.WHOLE, archive=made)

    async def downloaded(archives: Archives) -> bytes:
        async with archives.open(CALLER, SessionId("s1"), Packing(Format.ZIP)) as stream:
            await stream.prepare(whole=False)
            return b"".join([chunk async for chunk in stream.chunks(0, None)])

    async with archives_of(guarded(inner, concurrency=1), tmp_path) as archives:
        asking = [asyncio.create_task(downloaded(archives)) for _ in range(3)]
        await asyncio.sleep(0.05)
        may_begin.set()

        assert await asyncio.gather(*asking) == [b"hello"] * 3
    assert (inner.calls, inner.most_open) == (3, 1)
