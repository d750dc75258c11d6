"""Several processes with one spool, and what is left of one that dies."""

import asyncio
from hashlib import blake2b
from pathlib import Path

import pytest

from gateway.archive.spool import Begun, Spool
from gateway.domain.errors import StreamBroken
from tests.unit.archive.spools import (
    Other,
    another_process,
    content,
    key_of,
    make,
    names,
    on_disk,
    read,
    read_on,
)

BUDGET = 1_000_000


def digest(data: bytes) -> str:
    return blake2b(data).hexdigest()


async def test_one_process_makes_it_and_another_follows(tmp_path: Path) -> None:
    with another_process(tmp_path, BUDGET) as maker, another_process(tmp_path, BUDGET) as follower:
        assert maker.ask("begin 1 300000") == "begun"
        assert follower.ask("begin 1 300000") == "taken"
        follower.tell("follow 1")
        async with Spool.running(str(tmp_path), BUDGET) as spool:
            ours = asyncio.create_task(read(spool, 1))
            for first in range(0, 300_000, 50_000):
                order = f"append 1 {first} {first + 50_000}"
                assert await asyncio.to_thread(maker.ask, order) == "appended"
            assert await asyncio.to_thread(maker.ask, "finish") == "finished"

            assert await ours == content(1, 300_000)
        assert follower.answer() == digest(content(1, 300_000))
    assert names(tmp_path) == [key_of(1)]


async def test_a_maker_that_is_killed_leaves_nothing_that_is_served(tmp_path: Path) -> None:
    async with Spool.running(str(tmp_path), BUDGET) as spool:
        with another_process(tmp_path, BUDGET) as maker:
            assert maker.ask("begin 1 900000") == "begun"
            assert maker.ask("append 1 0 500000") == "appended"
            found = await spool.find(key_of(1))
            assert found is not None
            async with found:
                assert await found.beyond(0) == 500_000
                following = asyncio.create_task(read_on(found))
                await asyncio.sleep(0.01)

                maker.kill()

                with pytest.raises(StreamBroken):
                    await following
                with pytest.raises(StreamBroken):
                    await found.completed()
                assert await read(spool, 1) is None
                assert await spool.used() == 0
                assert names(tmp_path) == []
        await make(spool, 1, 900_000)
        assert await read(spool, 1) == content(1, 900_000)


async def test_a_start_removes_what_dead_processes_left(tmp_path: Path) -> None:
    with another_process(tmp_path, BUDGET) as maker:
        assert maker.ask("begin 1 900000") == "begun"
        assert maker.ask("append 1 0 500000") == "appended"
        maker.kill()
    assert len(names(tmp_path)) == 2

    async with Spool.running(str(tmp_path), BUDGET):
        assert names(tmp_path) == []


async def test_the_space_of_a_dead_maker_is_there_for_the_next(tmp_path: Path) -> None:
    async with Spool.running(str(tmp_path), BUDGET) as spool:
        with another_process(tmp_path, BUDGET) as maker:
            assert maker.ask("begin 1 900000") == "begun"
            assert await spool.begin(key_of(2), 200_000) is None
            maker.kill()
        await make(spool, 2, 200_000)


async def test_what_another_process_follows_is_not_evicted(tmp_path: Path) -> None:
    async with Spool.running(str(tmp_path), BUDGET) as spool:
        with another_process(tmp_path, BUDGET) as maker:
            assert maker.ask("begin 1 600000") == "begun"
            found = await spool.find(key_of(1))
            assert found is not None
            async with found:
                assert maker.ask("append 1 0 600000") == "appended"
                assert maker.ask("finish") == "finished"
                assert maker.ask("begin 2 600000") == "no room"
                assert await read_on(found) == content(1, 600_000)
            assert maker.ask("begin 2 600000") == "begun"
            assert await read(spool, 1) is None


async def test_an_unfinished_entry_of_another_process_is_broken_at_once(tmp_path: Path) -> None:
    async with Spool.running(str(tmp_path), BUDGET) as spool:
        with another_process(tmp_path, BUDGET) as maker:
            assert maker.ask("begin 1 600000") == "begun"
            found = await spool.find(key_of(1))
            assert found is not None
            async with found:
                assert maker.ask("leave") == "left"
                with pytest.raises(StreamBroken):
                    await found.beyond(0)


async def test_processes_together_keep_to_the_budget(tmp_path: Path) -> None:
    size = 300_000

    async def make_some(spool: Spool, first: int) -> int:
        made = 0
        for number in range(first, first + 10):
            try:
                growing = await spool.begin(key_of(number), size)
            except Begun:
                continue
            if growing is None:
                continue
            async with growing:
                await growing.append(content(number, size))
                assert on_disk(tmp_path) <= BUDGET
                await growing.finish()
                made += 1
        return made

    async def made_by(other: Other, number: int) -> bool:
        if await asyncio.to_thread(other.ask, f"begin {number} {size}") != "begun":
            return False
        order = f"append {number} 0 {size}"
        assert await asyncio.to_thread(other.ask, order) == "appended"
        assert await asyncio.to_thread(other.ask, "finish") == "finished"
        assert on_disk(tmp_path) <= BUDGET
        return True

    with another_process(tmp_path, BUDGET) as one, another_process(tmp_path, BUDGET) as two:
        async with Spool.running(str(tmp_path), BUDGET) as spool:
            tasks = [asyncio.create_task(make_some(spool, first)) for first in (0, 5, 10)]
            for number in range(100, 110):
                for other in (one, two):
                    await made_by(other, number)
            ours = await asyncio.gather(*tasks)
            assert await made_by(one, 200)  # before, there may have been no room for them
            assert await made_by(two, 201)

    assert sum(ours) > 0
    assert all(len(name) == 32 for name in names(tmp_path))
