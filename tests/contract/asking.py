"""What the contract's tests ask an executor for, in one line each."""

import asyncio
import gc
import io
import os
import tarfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager

import pytest

from gateway.domain.archives import ArchiveBounds, Format, Member, Packing, apart
from gateway.domain.errors import GatewayError
from gateway.domain.model import Entry
from gateway.domain.paths import WorkspacePath, text_to_name
from gateway.executors.base import Executor
from gateway.executors.streams import (
    EVERYTHING,
    ArchiveStream,
    FileStream,
    Members,
    Packed,
    Selection,
    Walk,
    Wanted,
)
from tests.rigs import Rig

EVERY_LEVEL = 100
MOST_PIECE = 1024 * 1024  # bytes
_TRIES = 3
_PATIENCE_S = 3.0
UNBOUNDED = ArchiveBounds(entries=10**6, bytes=1 << 40, file=1 << 40, depth=EVERY_LEVEL)


def at(path: str | bytes) -> WorkspacePath:
    """The path with these very names, also where `parse` would refuse them."""
    return WorkspacePath(tuple(part for part in os.fsencode(path).split(b"/") if part))


@asynccontextmanager
async def opened(
    rig: Rig, path: str | bytes, wanted: Wanted = EVERYTHING
) -> AsyncIterator[FileStream]:
    async with rig.executor.open(rig.workspace, at(path), wanted) as stream:
        yield stream


async def part(stream: FileStream, first: int, count: int | None) -> bytes:
    """What `chunks` gives, each of a proper size."""
    pieces = []
    async with aclosing(stream.chunks(first, count)) as chunks:  # type: ignore[type-var]  # any async iterator of ours has aclose
        async for piece in chunks:
            assert 0 < len(piece) <= MOST_PIECE
            pieces.append(piece)
    return b"".join(pieces)


async def whole(stream: FileStream) -> bytes:
    return await part(stream, 0, stream.entry.size)


async def content(rig: Rig, path: str | bytes, wanted: Wanted = EVERYTHING) -> bytes:
    async with opened(rig, path, wanted) as stream:
        return await whole(stream)


async def listed(
    rig: Rig,
    path: str | bytes = "",
    *,
    depth: int = EVERY_LEVEL,
    after: WorkspacePath | None = None,
    selection: Selection | None = None,
) -> list[Entry]:
    """All entries of a walk, whose batches are never empty."""
    entries: list[Entry] = []
    async with rig.executor.walk(
        rig.workspace, at(path), depth=depth, after=after, selection=selection
    ) as walk:
        async for batch in walk:
            assert batch
            entries += batch
    return entries


def asked(
    *paths: str | bytes, bounds: ArchiveBounds = UNBOUNDED, selection: Selection | None = None
) -> Packed:
    """An archive of the directories *paths*, or if there are none of everything."""
    return Packed(Packing(Format.TAR, apart(map(at, paths))), bounds, selection)


@asynccontextmanager
async def members_of(executor: Executor, workspace: str, packed: Packed) -> AsyncIterator[Members]:
    async with executor.archive(workspace, packed) as members:
        assert isinstance(members, Members)
        yield members


async def packed(
    executor: Executor, workspace: str, wanted: Packed
) -> tuple[dict[bytes, bytes | None], int]:
    """What would be in the archive, or is, in order, None for a directory; and how much was
    skipped.
    """
    async with executor.archive(workspace, wanted) as archive:
        if isinstance(archive, ArchiveStream):
            assert archive.skipped is not None
            await archive.prepare(whole=False)
            return unpacked(await whole(archive)), archive.skipped
        found = {b"/".join(m.parts): await body(archive, m) for m in archive.members}
        assert len(found) == len(archive.members)
        return found, archive.skipped.count


def unpacked(tar: bytes) -> dict[bytes, bytes | None]:
    """What is in a tar, in order."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        members = archive.getmembers()
        found = {
            text_to_name(member.name): file.read()
            if (file := archive.extractfile(member))
            else None
            for member in members
        }
        assert len(found) == len(members)
        return found


async def body(members: Members, member: Member) -> bytes | None:
    if member.is_directory:
        return None
    async with members.open(member) as stream:
        assert stream.entry.size in (member.size, None)
        return await part(stream, 0, member.size)


async def refusal(
    entering: AbstractAsyncContextManager[FileStream | Walk | Members | ArchiveStream],
) -> type[GatewayError]:
    """The verdict with which *entering* ends: not one that comes later."""
    with pytest.raises(GatewayError) as raised:
        async with entering:
            pytest.fail("it was entered")
    return raised.type


async def keeps_nothing(act: Callable[[], Awaitable[object]]) -> None:
    """Fail if each time that *act* is done more descriptors or tasks are left; what runs in threads
    may take a moment.

    What is opened once, as a connection that is kept or a helper of a gateway is, is no leak.
    """
    await act()
    for _ in range(_TRIES):
        before = _held()
        await act()
        left = await _left(before)
        if not any(left):
            return
    pytest.fail(f"descriptors and tasks are left: {left}, {asyncio.all_tasks()}")


def _held() -> tuple[int, int]:
    """How many descriptors and tasks there are."""
    gc.collect()
    return len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())


async def _left(before: tuple[int, int]) -> list[int]:
    """How many more there are than *before*, at last."""
    deadline = time.monotonic() + _PATIENCE_S
    while any(more := [max(0, now - was) for now, was in zip(_held(), before, strict=True)]):
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.02)
    return more
