"""The spool as one process sees it."""

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import pytest
from blockbuster import BlockBuster, BlockBusterFunction, BlockingError

from gateway.archive.spool import Begun, Growing, Spool
from gateway.domain.errors import StreamBroken
from tests.unit.archive.spools import (
    content,
    descriptors,
    has,
    key_of,
    make,
    names,
    on_disk,
    read,
    read_on,
)

BUDGET = 1000


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
async def spool(directory: Path) -> AsyncIterator[Spool]:
    async with Spool.running(str(directory), BUDGET) as running:
        yield running


async def test_what_was_made_is_found_after_a_restart(directory: Path) -> None:
    async with Spool.running(str(directory), BUDGET) as spool:
        await make(spool, 1, 700)
        assert await spool.used() == 700

    async with Spool.running(str(directory), BUDGET) as spool:
        assert await read(spool, 1) == content(1, 700)
        assert await spool.used() == 700
        assert await read(spool, 2) is None


async def test_a_complete_entry_says_so_at_once(spool: Spool) -> None:
    await make(spool, 1, 700)

    found = await spool.find(key_of(1))

    assert found is not None
    async with found:
        assert (found.is_complete, found.size) == (True, 700)
        assert await found.beyond(700) == 700
        assert await found.completed() == 700


async def test_keys_have_suffixes_and_are_nothing_else(spool: Spool) -> None:
    growing = await spool.begin(f"{key_of(1)}.tar.gz", 10)
    assert growing is not None
    async with growing:
        pass

    key = key_of(255)
    for wrong in ("", "x", f"../{key}", f"{key}\n", f"{key}/x", f"part-{key}", key.upper()):
        with pytest.raises(ValueError, match="not a key"):
            await spool.find(wrong)
        with pytest.raises(ValueError, match="not a key"):
            await spool.begin(wrong, 10)


async def test_followers_get_every_byte_as_it_comes(spool: Spool) -> None:
    growing = await spool.begin(key_of(1), 900)
    assert growing is not None
    async with growing, asyncio.TaskGroup() as group:
        followers = [group.create_task(read(spool, 1)) for _ in range(20)]
        for first in range(0, 800, 100):
            await growing.append(memoryview(content(1, 800))[first : first + 100])
            await asyncio.sleep(0.003)
        await growing.finish()

    assert {follower.result() for follower in followers} == {content(1, 800)}
    assert await spool.used() == 800


async def test_a_follower_sees_the_size_grow_and_then_the_end(spool: Spool) -> None:
    growing = await spool.begin(key_of(1), 900)
    assert growing is not None
    async with growing:
        found = await spool.find(key_of(1))
        assert found is not None
        async with found:
            await growing.append(b"abc")
            assert await found.beyond(0) == 3
            assert not found.is_complete
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(found.beyond(3), 0.05)
            await growing.append(b"d")
            assert await found.beyond(3) == 4
            await growing.finish()
            assert await found.completed() == 4


async def test_an_entry_that_is_left_unfinished_is_gone_and_broken(
    spool: Spool, directory: Path
) -> None:
    growing = await spool.begin(key_of(1), 900)
    assert growing is not None
    found = await spool.find(key_of(1))
    assert found is not None
    async with found:
        async with growing:
            await growing.append(b"abc")
            assert await found.beyond(0) == 3

        with pytest.raises(StreamBroken):
            await found.beyond(0)
        with pytest.raises(StreamBroken):
            await found.completed()
        assert os.pread(found.descriptor, 3, 0) == b"", "the disk has its space back"
    assert names(directory) == []
    assert await read(spool, 1) is None
    await make(spool, 1, 900)


async def test_one_key_is_begun_once(spool: Spool) -> None:
    growing = await spool.begin(key_of(1), 900)
    assert growing is not None
    async with growing:
        with pytest.raises(Begun):
            await spool.begin(key_of(1), 900)
        await growing.finish()

    with pytest.raises(Begun):
        await spool.begin(key_of(1), 900)


async def test_of_twenty_who_want_one_key_one_makes_it_and_all_have_it(spool: Spool) -> None:
    made = 0

    async def made_or_found() -> bytes | None:
        nonlocal made
        with suppress(Begun):
            await make(spool, 1, 900)
            made += 1
        return await read(spool, 1)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(made_or_found()) for _ in range(20)]

    assert made == 1
    assert {task.result() for task in tasks} == {content(1, 900)}


async def test_another_file_is_copied_from_its_beginning(tmp_path: Path) -> None:
    source = os.memfd_create("source")
    data = content(1, 700_001)
    try:
        os.write(source, data)
        async with Spool.running(str(tmp_path / "spool"), 1 << 20) as spool:
            growing = await spool.begin(key_of(1), 1 << 20)
            assert growing is not None
            async with growing:
                await growing.append(b"first")
                await growing.append_from(source, len(data))
                await growing.append_from(source, 3)
                await growing.append_from(source, 0)
                await growing.finish()
            found = await read(spool, 1)
            assert found == b"first" + data + data[:3]

            growing = await spool.begin(key_of(2), 2 * len(data))
            assert growing is None, "there is no room for so much"
            growing = await spool.begin(key_of(2), len(data) + 1)
            assert growing is not None
            async with growing:
                with pytest.raises(ValueError, match="fewer"):
                    await growing.append_from(source, len(data) + 1)
                with pytest.raises(ValueError, match="were written"):
                    await growing.finish()
            assert await read(spool, 2) is None
    finally:
        os.close(source)


async def test_more_than_was_reserved_is_refused(spool: Spool) -> None:
    growing = await spool.begin(key_of(1), 10)
    assert growing is not None
    async with growing:
        await growing.append(b"123456")
        with pytest.raises(ValueError, match="only 4 bytes"):
            await growing.append(b"12345")
        with pytest.raises(ValueError, match="only 4 bytes"):
            await growing.append_from(0, 5)
        await growing.finish()

    assert await read(spool, 1) == b"123456"


async def test_an_empty_entry_is_one(spool: Spool) -> None:
    await make(spool, 1, 0)

    assert await read(spool, 1) == b""


async def test_what_was_not_used_for_longest_is_evicted_first(spool: Spool) -> None:
    for number in (1, 2, 3, 4):
        await make(spool, number, 250)
    await read(spool, 1)
    await read(spool, 3)

    await make(spool, 5, 250)
    await make(spool, 6, 250)

    there = [number for number in range(1, 7) if await has(spool, number)]
    assert there == [1, 3, 5, 6]


async def test_what_is_read_is_not_evicted(spool: Spool) -> None:
    await make(spool, 1, 500)
    await make(spool, 2, 400)
    found = await spool.find(key_of(1))
    assert found is not None
    async with found:
        assert await spool.begin(key_of(3), 600) is None
        await make(spool, 3, 500)

        assert os.pread(found.descriptor, 500, 0) == content(1, 500)
    assert await has(spool, 1)
    assert not await has(spool, 2)
    await make(spool, 4, 1000)
    assert not await has(spool, 1)


async def test_what_was_followed_while_it_grew_is_not_evicted_either(spool: Spool) -> None:
    """Its follower may be slow, and open files take up the disk without a name, too."""
    growing = await spool.begin(key_of(1), 900)
    assert growing is not None
    found = await spool.find(key_of(1))
    assert found is not None
    async with found:
        async with growing:
            await growing.append(content(1, 600))
            await growing.finish()

        assert await spool.begin(key_of(2), 500) is None
        assert await read_on(found) == content(1, 600)
    await make(spool, 2, 500)


async def test_nothing_is_evicted_for_what_can_never_fit(spool: Spool) -> None:
    await make(spool, 1, 500)
    growing = await spool.begin(key_of(2), 300)
    assert growing is not None

    async with growing:
        assert await spool.begin(key_of(3), BUDGET + 1) is None
        assert await spool.begin(key_of(3), BUDGET - 299) is None
        assert await has(spool, 1)
        await growing.append(b"abc")
        await growing.finish()
    await make(spool, 3, 400)
    assert await has(spool, 1), "what is not used of a reservation is free again"


async def test_more_than_the_disk_has_finds_no_room(directory: Path) -> None:
    async with Spool.running(str(directory), 1 << 60) as spool:
        free = os.statvfs(directory).f_bavail * os.statvfs(directory).f_frsize
        await make(spool, 1, 1000)
        growing = await spool.begin(key_of(2), free // 2)
        assert growing is not None

        async with growing:
            assert await spool.begin(key_of(3), free // 2 + (256 << 20)) is None
        assert await has(spool, 1)


async def test_a_lower_budget_counts_from_the_start(directory: Path) -> None:
    async with Spool.running(str(directory), BUDGET) as spool:
        await make(spool, 1, 500)
        await make(spool, 2, 500)

    async with Spool.running(str(directory), 600) as spool:
        assert await spool.used() == 500
        assert await has(spool, 2)


async def test_twenty_at_once_never_take_more_than_the_budget(
    spool: Spool, directory: Path
) -> None:
    size, most = BUDGET // 4, 0

    async def make_slowly(number: int) -> bool:
        nonlocal most
        growing = await spool.begin(key_of(number), size)
        if growing is None:
            return False
        async with growing:
            for first in range(0, size, 50):
                await growing.append(content(number, size)[first : first + 50])
                most = max(most, await asyncio.to_thread(on_disk, directory))
            await growing.finish()
        return await read(spool, number) in (content(number, size), None)

    for first in range(0, 60, 20):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(make_slowly(first + n)) for n in range(20)]
        assert sum(task.result() for task in tasks) >= 4
    assert BUDGET // 2 < most <= BUDGET
    assert on_disk(directory) <= BUDGET


async def test_a_cancelled_maker_leaves_nothing(spool: Spool, directory: Path) -> None:
    before = descriptors()

    async def make_for_ever() -> None:
        try:
            growing = await spool.begin(key_of(1), 900)
        except Begun:  # the one before is still being taken back
            return
        assert growing is not None
        async with growing:
            while True:
                await growing.append(b"")

    for delay in range(30):
        task = asyncio.create_task(make_for_ever())
        await asyncio.sleep(delay * 0.0001)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async with asyncio.timeout(5):
        while descriptors() > before or names(directory):
            await asyncio.sleep(0.01)
    await make(spool, 1, 900)


async def test_makers_that_are_cancelled_while_they_leave_leave_nothing_either(
    spool: Spool, directory: Path
) -> None:
    before = descriptors()

    async def stay(number: int) -> None:
        growing = await spool.begin(key_of(number), 1)
        assert growing is not None
        async with growing:
            await asyncio.sleep(60)

    tasks = [asyncio.create_task(stay(number)) for number in range(50)]
    while len(names(directory)) < 100:
        await asyncio.sleep(0.01)
    for _ in range(2):
        for task in tasks:
            task.cancel()
        await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)

    async with asyncio.timeout(5):
        while descriptors() > before or names(directory):
            await asyncio.sleep(0.01)


async def test_finishing_that_is_cancelled_leaves_all_or_nothing(spool: Spool) -> None:
    for delay in range(30):
        number = 100 + delay

        async def finish(number: int = number) -> None:
            await make(spool, number, 30)

        task = asyncio.create_task(finish())
        await asyncio.sleep(delay * 0.0002)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        with suppress(StreamBroken):
            assert await read(spool, number) in (None, content(number, 30))


async def test_readers_that_leave_or_are_cancelled_leave_no_descriptor(spool: Spool) -> None:
    growing = await spool.begin(key_of(1), 900)
    assert growing is not None
    await make(spool, 2, 50)
    async with growing:
        await growing.append(b"abc")
        before = descriptors()

        for round_ in range(100):
            found = await spool.find(key_of(1 + round_ % 2))
            assert found is not None
            async with found:
                await found.beyond(0)
        for delay in range(30):
            tasks = [asyncio.create_task(read(spool, number)) for number in (1, 2, 3)]
            await asyncio.sleep(delay * 0.0001)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        async with asyncio.timeout(5):
            while descriptors() > before:
                await asyncio.sleep(0.01)
        assert await spool.begin(key_of(3), 150) is None
    await make(spool, 3, BUDGET)  # nobody holds entry 2


async def test_no_call_that_may_wait_for_the_disk_is_made_on_the_loop(directory: Path) -> None:
    guard = BlockBuster()
    for name in ("open", "listdir", "fstatvfs", "ftruncate", "fdatasync", "rename", "utime"):
        guard.functions.setdefault(f"os.{name}", BlockBusterFunction(os, name))
    guard.activate()
    try:
        with pytest.raises(BlockingError):
            os.fstatvfs(0)
        async with Spool.running(str(directory), BUDGET) as spool:
            await make(spool, 1, 900)
            await make(spool, 2, 900)
            assert await read(spool, 1) is None
            assert await read(spool, 2) == content(2, 900)
            assert await spool.used() == 900
    finally:
        guard.deactivate()


async def test_large_entries_come_whole(tmp_path: Path) -> None:
    data = content(1, 1 << 20)
    async with Spool.running(str(tmp_path / "spool"), 64 << 20) as spool:
        growing = await spool.begin(key_of(1), 32 << 20)
        assert growing is not None
        async with growing, asyncio.TaskGroup() as group:
            follower = group.create_task(read(spool, 1))
            for _ in range(32):
                await growing.append(data)
            await growing.finish()

    found = follower.result()
    assert found is not None
    assert blake2b(found).digest() == blake2b(data * 32).digest()


async def test_to_leave_while_one_is_begun_for_nobody_leaves_nothing(directory: Path) -> None:
    """However far it has come with that."""
    for number in range(200):
        async with Spool.running(str(directory), BUDGET) as spool:
            beginning = asyncio.create_task(spool.begin(key_of(number), 900))
            for _ in range(number % 40):
                await asyncio.sleep(0)
            if beginning.cancel():
                await asyncio.gather(beginning, return_exceptions=True)
            elif (growing := beginning.result()) is not None:
                async with growing:
                    pass

        assert names(directory) == []


async def test_a_spool_that_stays_locked_does_not_hold_up_the_exit(directory: Path) -> None:
    """What was begun for nobody is taken back once it has the lock."""
    async with Spool.running(str(directory), BUDGET) as spool:
        locked = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(locked, fcntl.LOCK_EX)
        beginning = asyncio.create_task(spool.begin(key_of(1), 900))
        await asyncio.sleep(0.1)
        beginning.cancel()
        await asyncio.gather(beginning, return_exceptions=True)
        began = time.monotonic()
    took_s = time.monotonic() - began
    os.close(locked)

    assert 4 < took_s < 8
    async with Spool.running(str(directory), BUDGET) as spool, asyncio.timeout(10):
        while (growing := await _begun(spool)) is None:
            await asyncio.sleep(0.05)
        async with growing:
            assert names(directory) == [f"maker-{key_of(1)}", f"part-{key_of(1)}"]


async def _begun(spool: Spool) -> Growing | None:
    with suppress(Begun):
        return await spool.begin(key_of(1), 900)
    return None
