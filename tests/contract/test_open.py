"""An open file gives its bytes exactly, whole or in parts, whatever was said to be wanted."""

import asyncio
import os
import random
import time
from contextlib import AsyncExitStack

import pytest

from gateway.domain.errors import StreamBroken
from gateway.domain.model import Kind
from gateway.executors.base import Proof
from gateway.executors.streams import Wanted
from tests.contract.asking import at, content, opened, part, whole
from tests.rigs import Rig

MANY = 20


def random_bytes(count: int) -> bytes:
    return random.Random(count).randbytes(count)


async def test_the_backend_is_ready(rig: Rig) -> None:
    assert (await rig.executor.probe()).ready


@pytest.mark.parametrize("size", [0, 1, 300_000, 3_000_000])
async def test_a_file_is_given_byte_by_byte(rig: Rig, size: int) -> None:
    expected = random_bytes(size)
    rig.plant({"d/f": expected})

    async with opened(rig, "d/f") as stream:
        assert await whole(stream) == expected
        told = stream.entry.size
        if stream.descriptor is not None:
            assert os.pread(stream.descriptor, size + 1, 0) == expected

    assert told == size or (told is None and rig.executor.capabilities.proof is Proof.BOUNDARY)


@pytest.mark.parametrize(
    "text", [b"caf\xc3\xa9\r\n\n", b"\xef\xbb\xbf{}", b"\x00\xff\x1b[2J", b"="]
)
async def test_no_byte_is_taken_for_text(rig: Rig, text: bytes) -> None:
    rig.plant({"f": text})

    assert await content(rig, "f") == text


async def test_what_is_told_of_an_open_file_is_true(rig: Rig) -> None:
    before = time.time_ns()
    rig.plant({"d/f.txt": b"12345"})

    async with opened(rig, "d/f.txt") as stream:
        entry, source = stream.entry, stream.source

    assert entry.path == at("d/f.txt")
    assert entry.kind is Kind.FILE
    assert not entry.is_link
    assert entry.problem is None
    assert source
    if entry.mtime_ns is not None:  # some backends tell whole seconds
        assert before - 2 * 10**9 <= entry.mtime_ns <= time.time_ns() + 2 * 10**9


PARTS = [(299_990, 10), (0, 5), (100_000, 150_000), (7, 0), (0, 300_000), (299_999, 1), (1, 70_000)]


async def test_parts_are_had_in_any_order(rig: Rig) -> None:
    """Also where the backend has no ranges: that is slower."""
    expected = random_bytes(300_000)
    rig.plant({"f": expected})

    async with opened(rig, "f") as stream:
        assert stream.seekable or not rig.executor.capabilities.ranges
        for first, count in PARTS:
            assert await part(stream, first, count) == expected[first : first + count]
        for first, count in PARTS:
            assert await stream.read(first, count) == expected[first : first + count]


async def test_the_beginning_can_be_looked_at_first(rig: Rig) -> None:
    """The type of a file is guessed from its first bytes before it is sent."""
    expected = random_bytes(300_000)
    rig.plant({"f": expected})

    async with opened(rig, "f") as stream:
        assert await stream.read(0, 261) == expected[:261]
        assert await stream.read(0, 1000) == expected[:1000]
        assert await whole(stream) == expected


@pytest.mark.parametrize(("first", "count"), [(9, 2), (10, 1), (5000, 1), (0, 11)])
async def test_what_is_not_there_is_never_given_short(rig: Rig, first: int, count: int) -> None:
    rig.plant({"f": b"0123456789"})

    async with opened(rig, "f") as stream:
        with pytest.raises(StreamBroken):
            await part(stream, first, count)


@pytest.mark.parametrize("size", [0, 10, 300_000])
@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(),
        Wanted(0, 0),
        Wanted(0, 1),
        Wanted(3, 4),
        Wanted(3),
        Wanted(9, 1),
        Wanted(10),
        Wanted(5, 10**9),
        Wanted(10**9, 1),
        Wanted(10**12),
        Wanted(unless="another"),
        Wanted(3, 4, unless="another"),
    ],
    ids=str,
)
async def test_a_hint_changes_nothing(rig: Rig, wanted: Wanted, size: int) -> None:
    expected = random_bytes(size)
    rig.plant({"f": expected})
    first = min(2, size)
    last = max(0, size - 5)

    async with opened(rig, "f", wanted) as stream:
        assert stream.entry.size in (size, None)
        assert await part(stream, last, size - last) == expected[last:]
        assert await part(stream, first, size - first) == expected[first:]
        assert await whole(stream) == expected


async def test_a_version_is_of_the_bytes(rig: Rig) -> None:
    """Where versions are declared, every open file has one; where not, none has."""
    versions = []
    for planted in (b"one", None, b"two", b"more", b"one, again"):
        if planted is not None:
            await asyncio.sleep(0.02)  # the clock of a disk ticks every 4 ms
            rig.plant({"f": planted})
        async with opened(rig, "f") as stream:
            versions.append(stream.entry.version)

    if rig.executor.capabilities.versions:
        assert all(versions)
        assert versions[0] == versions[1]
        assert len({*versions}) == 4
    else:
        assert versions == [None] * 5


@pytest.mark.parametrize("hint", [Wanted(), Wanted(3, 4), Wanted(10**9)], ids=str)
async def test_a_version_that_is_had_already_hides_nothing(rig: Rig, hint: Wanted) -> None:
    """Nothing of the file will be read, most likely; it can be all the same."""
    expected = random_bytes(300_000)
    rig.plant({"f": expected})
    async with opened(rig, "f") as stream:
        version = stream.entry.version

    async with opened(rig, "f", Wanted(hint.first, hint.count, unless=version)) as stream:
        assert stream.entry.version == version
        assert stream.entry.size in (300_000, None)
        assert await part(stream, 5, 10) == expected[5:15]
        assert await whole(stream) == expected


async def test_a_version_that_is_old_does_not_hide_the_new_one(rig: Rig) -> None:
    rig.plant({"f": b"old"})
    async with opened(rig, "f") as stream:
        version = stream.entry.version
    await asyncio.sleep(0.02)
    rig.plant({"f": b"newer"})

    async with opened(rig, "f", Wanted(unless=version)) as stream:
        assert stream.entry.size in (5, None)
        assert stream.entry.version is None or stream.entry.version != version
        assert await whole(stream) == b"newer"


async def test_two_readers_do_not_mix(rig: Rig) -> None:
    if rig.executor.capabilities.per_workspace == 1:
        pytest.skip("a backend that bears one call at once")
    ours, theirs = random_bytes(300_000), random_bytes(300_001)
    rig.plant({"a": ours, "b": theirs})

    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(opened(rig, "a"))
        two = await stack.enter_async_context(opened(rig, "b"))
        mine, others = one.chunks(0, 300_000), two.chunks(0, 300_001)
        got: list[bytes] = [b"", b""]
        running = [True, True]
        while any(running):
            for number, chunks in enumerate((mine, others)):
                piece = await anext(chunks, b"")
                running[number] = bool(piece)
                got[number] += piece

    assert got == [ours, theirs]


async def test_many_files_are_opened_at_once(rig: Rig) -> None:
    """As many at once as the executor says that a workspace bears."""
    files = {f"d{number % 3}/{number}": random_bytes(10_000 + number) for number in range(MANY)}
    rig.plant(files)
    slots = asyncio.Semaphore(rig.executor.capabilities.per_workspace or MANY)

    async def got(path: str) -> bytes:
        async with slots:
            return await content(rig, path)

    assert await asyncio.gather(*map(got, files)) == [*files.values()]


async def test_a_file_that_shrinks_is_had_as_it_was_or_breaks(rig: Rig) -> None:
    expected = random_bytes(3_000_000)
    rig.plant({"f": expected})
    got = b""

    async with opened(rig, "f") as stream:
        try:
            async for piece in stream.chunks(0, stream.entry.size):
                if not got:
                    rig.plant({"f": b"short"})
                got += piece
        except StreamBroken:
            return

    assert got == expected
