"""Bodies: exact, or broken; from memory inline, from the disk by way of the pool."""

import asyncio
import os
import random
import threading
from pathlib import Path

import pytest

from gateway.domain.errors import StreamBroken
from gateway.domain.model import Kind
from gateway.domain.paths import WorkspacePath
from gateway.executors.local.local import Local
from gateway.system.descriptor import Descriptor
from gateway.system.reading import PIECE
from tests import needs
from tests.unit.executors.local.rig import Place, only_open, open_files, running

F = WorkspacePath((b"f",))
BODY = random.Random(1).randbytes(3 * PIECE + 12_345)


def drop_from_memory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def is_in_memory(path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.preadv(fd, [bytearray(1)], 0, os.RWF_NOWAIT) == 1
    except OSError:
        return False
    finally:
        os.close(fd)


async def drop_for_sure(path: Path) -> None:
    """The kernel keeps pages that a processor has just had in hand."""
    for _ in range(50):
        drop_from_memory(path)
        if not is_in_memory(path):
            drop_from_memory(path)  # asking has made the kernel read ahead
            return
        await asyncio.sleep(0.01)
    needs.missing("a file system that does not keep its files in memory")


async def test_random_stretches_are_exact(place: Place, executor: Local) -> None:
    path = place.file("f", BODY)
    stretches = [
        sorted((random.Random(n).randrange(len(BODY)), random.Random(~n).randrange(len(BODY))))
        for n in range(50)
    ]
    async with executor.open("s1", F) as stream:
        for number, (first, end) in enumerate(stretches):
            if number % 2:
                drop_from_memory(path)

            assert BODY[first:end] == await stream.read(first, end - first)
            assert BODY[first:end] == b"".join(
                [piece async for piece in stream.chunks(first, end - first)]
            )


@pytest.mark.parametrize(("first", "count"), [(0, 0), (10, 0), (len(BODY), 0), (len(BODY) - 1, 1)])
async def test_the_edges(place: Place, executor: Local, first: int, count: int) -> None:
    place.file("f", BODY)
    async with executor.open("s1", F) as stream:
        assert BODY[first : first + count] == await stream.read(first, count)
        assert BODY[first : first + count] == b"".join(
            [piece async for piece in stream.chunks(first, count)]
        )


async def test_pieces_are_bounded(place: Place, executor: Local) -> None:
    place.file("f", BODY)
    async with executor.open("s1", F) as stream:
        sizes = [len(piece) async for piece in stream.chunks(0, len(BODY))]

    assert sizes == [PIECE, PIECE, PIECE, 12_345]


async def test_the_entry_describes_the_open_file(place: Place, executor: Local) -> None:
    path = place.file("f", b"12345")
    path.chmod(0o640)
    os.utime(path, ns=(0, 1_234_567_890_123_456_789))
    async with executor.open("s1", F) as stream:
        path.unlink()
        entry = stream.entry

    assert entry[:5] == (F, Kind.FILE, 5, 1_234_567_890_123_456_789, 0o640)
    assert stream.source == "local"


async def test_a_version_changes_with_the_file_and_is_the_same_elsewhere(
    place: Place, executor: Local
) -> None:
    path = place.file("f", b"one")
    versions = []
    for change in (
        lambda: None,
        lambda: path.write_bytes(b"two"),
        lambda: os.utime(path, ns=(0, 0)),
        lambda: os.utime(path, ns=(0, 1)),
        lambda: (path.unlink(), path.write_bytes(b"two")),
    ):
        change()
        async with (
            running(place) as another,
            another.open("s1", F) as there,
            executor.open("s1", F) as here,
        ):
            assert here.entry.version == there.entry.version
            versions.append(here.entry.version)
        await asyncio.sleep(0.02)  # a tick of the kernel's clock

    assert len(set(versions)) == len(versions)


async def test_a_file_that_grows_gives_what_was_promised(place: Place, executor: Local) -> None:
    path = place.file("f", BODY)
    async with executor.open("s1", F) as stream:
        size = stream.entry.size
        assert size is not None
        got = b""
        async for piece in stream.chunks(0, size):
            with path.open("ab") as file:
                file.write(b"more")
            got += piece

    assert got == BODY


@pytest.mark.parametrize("size", [0, 1, PIECE, PIECE + 1])
async def test_a_file_that_shrinks_breaks_the_stream(
    place: Place, executor: Local, size: int
) -> None:
    path = place.file("f", BODY)
    async with executor.open("s1", F) as stream:
        pieces = stream.chunks(0, len(BODY))
        got = await anext(pieces)
        os.truncate(path, size)
        with pytest.raises(StreamBroken):
            got += b"".join([piece async for piece in pieces])

    assert BODY.startswith(got)


async def test_what_is_in_memory_needs_no_thread(place: Place) -> None:
    place.file("f", BODY)
    async with running(place, "openat2") as executor:
        async with executor.open("s1", F):
            pass
        threads = threading.active_count()
        async with executor.open("s1", F) as stream:
            step = stream.read(0, 1024)
            with pytest.raises(StopIteration) as done:
                step.send(None)
            assert threading.active_count() <= threads

    assert done.value.value == BODY[:1024]


async def test_what_is_not_in_memory_is_read_by_the_pool(place: Place, executor: Local) -> None:
    path = place.file("f", BODY)
    async with executor.open("s1", F) as stream:
        await drop_for_sure(path)
        step = stream.read(PIECE, PIECE)
        assert asyncio.isfuture(step.send(None))
        step.close()

        await drop_for_sure(path)
        assert BODY[PIECE : 2 * PIECE] == await stream.read(PIECE, PIECE)


async def test_a_read_after_the_end_of_the_stream_is_broken(place: Place, executor: Local) -> None:
    place.file("f", BODY)
    async with executor.open("s1", F) as stream:
        pass

    with pytest.raises(StreamBroken):
        await stream.read(0, 1)


async def test_cancelled_readers_leave_no_file_open(place: Place, executor: Local) -> None:
    path = place.file("f", BODY)
    await executor.probe()
    before = open_files()

    async def reader() -> None:
        async with executor.open("s1", F) as stream:
            while True:
                drop_from_memory(path)
                await stream.read(0, len(BODY))

    for number in range(60):
        task = asyncio.create_task(reader())
        await asyncio.sleep(number % 6 / 2000)
        task.cancel()
        await asyncio.wait([task])

    await only_open(before)


def test_a_held_descriptor_is_closed_by_the_last_thread_that_holds_it(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    descriptor = Descriptor(os.open(tmp_path / "f", os.O_RDONLY))
    with descriptor.held(), descriptor.held() as fd:
        descriptor.close()
        assert os.pread(fd, 1, 0) == b"x"
        with pytest.raises(ValueError, match="closed"), descriptor.held():
            pass

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    descriptor.close()
