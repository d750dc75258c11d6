"""Archives are made once, into the spool, and go straight to the reader where it cannot be used."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, suppress
from pathlib import Path

import pytest

from gateway.archive.archiver import Archiver, Obtained
from gateway.archive.direct import Direct
from gateway.archive.helpers import Helpers
from gateway.archive.plan import Plan
from gateway.archive.spool import Spooled
from gateway.domain.archives import Format, Packing
from gateway.domain.errors import StreamBroken, TooManyRequests
from gateway.telemetry import metrics
from tests.unit.archive.processes import children, started
from tests.unit.archive.spools import descriptors, names, read_on
from tests.unit.archive.trees import Fetched, Tree, archive, noise

TREE: Tree = {b"%02d" % number: noise(number, 50_000) for number in range(40)}
BUDGET = 100_000_000


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
async def archiver(directory: Path) -> AsyncIterator[Archiver]:
    before = children()
    async with Archiver.running(str(directory), BUDGET, processes=2, most_builds=2) as running:
        await started(2, before)  # or they would open something while a test counts
        yield running


async def plan_by(archiver: Archiver, source: Fetched, form: Format = Format.ZIP) -> Plan:
    return await archiver.plan("local/s1", Packing(form), source.members)


async def obtained(archiver: Archiver, plan: Plan, source: Fetched) -> tuple[str, bytes]:
    """Where it came from, and all of it."""
    async with AsyncExitStack() as owner:
        found = await archiver.obtain(plan, source, owner)
        return found.result, await whole(found)


async def whole(found: Obtained) -> bytes:
    async with found.made as made:
        if isinstance(made, Direct):
            return b"".join([piece async for piece in made.chunks(0, None)])
        return await read_on(made)


async def begun(archiver: Archiver, plan: Plan, source: Fetched, owner: AsyncExitStack) -> Spooled:
    """An archive that is being made."""
    found = await archiver.obtain(plan, source, owner)
    assert found.result == "miss"
    assert isinstance(found.made, Spooled)
    return found.made


async def settled(directory: Path) -> list[str]:
    """What is in the spool once nothing is made any more; readers do not wait for that."""
    async with asyncio.timeout(5):
        while any("-" in name for name in names(directory)):
            await asyncio.sleep(0.01)
    return names(directory)


async def alone() -> None:
    """Once no build is under way any more."""
    async with asyncio.timeout(5):
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.01)


def counted(outcome: str) -> float:
    """How many archives have been made so."""
    return float(metrics.ARCHIVE_BUILDS.labels("zip", outcome)._value.get())


async def test_twenty_equal_requests_make_one_archive(archiver: Archiver, directory: Path) -> None:
    gate = asyncio.Event()
    source = Fetched(TREE, pause_s=0.001, gate=gate)
    plan = await plan_by(archiver, source)
    before = counted("ok")

    requests = (archiver.obtain(plan, source, AsyncExitStack()) for _ in range(20))
    found = await asyncio.gather(*requests)
    gate.set()
    answers = await asyncio.gather(*map(whole, found))

    assert sorted(each.result for each in found) == ["follow"] * 19 + ["miss"]
    assert len(set(answers)) == 1
    assert source.opened == len(TREE)
    assert await settled(directory) == [plan.key]
    async with asyncio.timeout(5):
        while counted("ok") == before:
            await asyncio.sleep(0.01)
    assert counted("ok") == before + 1
    assert await obtained(archiver, plan, source) == ("hit", answers[0])
    assert source.opened == len(TREE)


async def test_what_was_made_is_there_after_a_restart(directory: Path) -> None:
    source = Fetched(TREE)
    made = []
    for _ in range(2):
        async with Archiver.running(str(directory), BUDGET, processes=1, most_builds=1) as archiver:
            made.append(await obtained(archiver, await plan_by(archiver, source), source))

    (first, data), (second, again) = made
    assert (first, second) == ("miss", "hit")
    assert data == again
    assert source.opened == len(TREE)


async def test_a_build_goes_on_when_its_reader_leaves(archiver: Archiver) -> None:
    """What it reads from is held as long."""
    source = Fetched(TREE, pause_s=0.001)
    plan = await plan_by(archiver, source)
    left = asyncio.Event()
    async with AsyncExitStack() as owner:
        owner.callback(left.set)
        async with await begun(archiver, plan, source, owner):
            pass

    assert not left.is_set()
    await asyncio.wait_for(left.wait(), 5)
    result, _ = await obtained(archiver, plan, source)
    assert result in ("hit", "follow")
    assert source.opened == len(TREE)


async def test_a_build_that_fails_leaves_nothing_and_the_next_one_works(
    archiver: Archiver, directory: Path
) -> None:
    source = Fetched(TREE, pause_s=0.001)
    plan = await plan_by(archiver, source)
    gone = source.now.pop(b"39")
    before = counted("error")
    async with AsyncExitStack() as owner, await begun(archiver, plan, source, owner) as made:
        with pytest.raises(StreamBroken):
            await made.completed()
        source.now[b"39"] = gone

        result, data = await obtained(archiver, plan, source)

    assert result == "miss"
    assert data.count(b"PK\1\2") == len(TREE)
    assert counted("error") == before + 1
    assert await settled(directory) == [plan.key]


async def test_no_more_archives_are_made_at_once_than_may_be(
    archiver: Archiver, directory: Path
) -> None:
    gate = asyncio.Event()
    sources = [Fetched({**TREE, b"%d" % number: b"x"}, gate=gate) for number in range(3)]
    plans = [await plan_by(archiver, source) for source in sources]
    async with AsyncExitStack() as stack:
        for plan, source in zip(plans[:2], sources[:2], strict=True):
            await stack.enter_async_context(await begun(archiver, plan, source, AsyncExitStack()))

        with pytest.raises(TooManyRequests) as refused:
            await obtained(archiver, plans[2], sources[2])
        followed = await archiver.obtain(plans[0], sources[0], AsyncExitStack())
        gate.set()
        await whole(followed)

    assert refused.value.retry_after_s > 0
    assert followed.result == "follow"
    assert sources[2].opened == 0
    await alone()
    result, _ = await obtained(archiver, plans[2], sources[2])
    assert result == "miss"


async def test_what_goes_straight_to_its_reader_is_one_of_them_too(directory: Path) -> None:
    """And counted, each time that it is made; as long as it is entered, another one has to wait."""
    source = Fetched(TREE)
    before = counted("ok"), counted("cancelled")
    async with Archiver.running(str(directory), 1000, processes=2, most_builds=1) as archiver:
        plan = await plan_by(archiver, source)
        found = await archiver.obtain(plan, source, AsyncExitStack())
        assert isinstance(found.made, Direct)
        async with found.made as made:
            size = await made.measure()
            assert counted("ok") == before[0] + 1
            with pytest.raises(TooManyRequests):
                await archiver.obtain(plan, source, AsyncExitStack())
            async with aclosing(made.chunks(0, size)) as pieces:
                await anext(pieces)
        assert counted("cancelled") == before[1] + 1

        assert len((await obtained(archiver, plan, source))[1]) == size
    assert counted("ok") == before[0] + 2


async def test_a_length_is_told_without_making_anything(
    archiver: Archiver, directory: Path
) -> None:
    """That of what is there, and that of what is not compressed."""
    source = Fetched(TREE, pause_s=0.001)
    plan, stored = [await plan_by(archiver, source, form) for form in (Format.ZIP, Format.TAR)]

    assert await archiver.length(stored) == stored.size
    assert await archiver.length(plan) is None
    assert source.opened == 0
    async with AsyncExitStack() as owner, await begun(archiver, plan, source, owner):
        assert await archiver.length(plan) is None
    _, data = await obtained(archiver, plan, source)
    assert await archiver.length(plan) == len(data)
    assert await settled(directory) == [plan.key]
    shutil.rmtree(directory)
    directory.write_bytes(b"a file")
    assert await archiver.length(plan) is None


@pytest.mark.parametrize("form", list(Format))
async def test_without_room_the_reader_gets_the_same_bytes(
    tmp_path: Path, directory: Path, helpers: Helpers, form: Format
) -> None:
    source = Fetched(TREE)
    async with Archiver.running(str(directory), 1000, processes=2, most_builds=1) as archiver:
        plan = await plan_by(archiver, source, form)
        expected = await archive(plan, source, helpers, tmp_path / "expected")

        assert await obtained(archiver, plan, source) == ("bypass", expected)
        found = await archiver.obtain(plan, source, AsyncExitStack())

    assert isinstance(found.made, Direct)
    assert names(directory) == []


async def test_a_directory_that_is_removed_is_made_again(
    archiver: Archiver, directory: Path
) -> None:
    """Who follows has the file, and needs no name."""
    source, other = Fetched(TREE, pause_s=0.002), Fetched({b"x": b"x"})
    plan = await plan_by(archiver, source)
    async with AsyncExitStack() as owner, await begun(archiver, plan, source, owner) as made:
        await made.beyond(0)
        shutil.rmtree(directory)
        data = await read_on(made)

    assert (await obtained(archiver, await plan_by(archiver, other), other))[0] == "miss"
    await alone()
    result, again = await obtained(archiver, plan, source)
    assert result in ("hit", "miss", "follow")
    assert again == data


async def test_a_directory_that_cannot_be_used_is_done_without(
    archiver: Archiver, directory: Path
) -> None:
    source = Fetched(TREE)
    plan = await plan_by(archiver, source)
    shutil.rmtree(directory)
    directory.write_bytes(b"a file")

    result, data = await obtained(archiver, plan, source)

    assert result == "bypass"
    assert data.count(b"PK\1\2") == len(TREE)


async def test_a_directory_that_goes_while_an_archive_is_made_breaks_nothing_else(
    archiver: Archiver, directory: Path
) -> None:
    source = Fetched(TREE, pause_s=0.002)
    plan = await plan_by(archiver, source)
    async with AsyncExitStack() as owner, await begun(archiver, plan, source, owner) as made:
        shutil.rmtree(directory)
        directory.write_bytes(b"a file")
        with suppress(StreamBroken):  # it may be whole, and cannot be kept
            await made.completed()

    assert (await obtained(archiver, plan, source))[0] == "bypass"


async def test_what_takes_too_long_is_given_up(directory: Path) -> None:
    source = Fetched(TREE, pause_s=0.05)
    running = Archiver.running(str(directory), BUDGET, processes=1, most_builds=1, longest_s=0.3)
    async with running as archiver, AsyncExitStack() as owner:
        found = await archiver.obtain(await plan_by(archiver, source), source, owner)
        assert found.build is not None
        async with found.made as made:
            assert isinstance(made, Spooled)
            with pytest.raises(StreamBroken):
                await made.completed()
            with pytest.raises(TimeoutError):
                await found.build

    assert names(directory) == []
    assert source.at_once == 0


async def test_to_leave_ends_what_is_being_made(directory: Path) -> None:
    before, tasks = descriptors(), len(asyncio.all_tasks())
    source = Fetched(TREE, pause_s=0.01)
    left = asyncio.Event()
    async with AsyncExitStack() as reading:
        async with Archiver.running(str(directory), BUDGET, processes=2, most_builds=1) as archiver:
            owner = AsyncExitStack()
            owner.callback(left.set)
            plan = await plan_by(archiver, source)
            made = await reading.enter_async_context(await begun(archiver, plan, source, owner))
            await asyncio.sleep(0.05)
        assert left.is_set()
        with pytest.raises(StreamBroken):
            await made.completed()

    assert names(directory) == []
    assert source.at_once == 0
    async with asyncio.timeout(5):
        while descriptors() > before or len(asyncio.all_tasks()) > tasks:
            await asyncio.sleep(0.01)


async def test_to_leave_while_a_build_is_given_up_leaves_nothing(directory: Path) -> None:
    """However far it has come with that."""
    source = Fetched(TREE, pause_s=0.01)
    for number in range(60):
        async with (
            Archiver.running(str(directory), BUDGET, processes=1, most_builds=1) as archiver,
            AsyncExitStack() as owner,
            await begun(archiver, await plan_by(archiver, source), source, owner),
        ):
            await archiver.finish(0)
            for _ in range(number % 12):
                await asyncio.sleep(0)

        assert names(directory) == []


async def test_to_finish_is_to_make_what_somebody_follows(archiver: Archiver) -> None:
    """And nothing else."""
    gate, given_up = asyncio.Event(), asyncio.Event()
    source, other = Fetched(TREE, gate=gate), Fetched({**TREE, b"x": b"x"}, gate=gate)
    plans = await plan_by(archiver, source), await plan_by(archiver, other)
    async with AsyncExitStack() as owner, await begun(archiver, plans[0], source, owner) as made:
        owner.callback(given_up.set)
        async with await begun(archiver, plans[1], other, owner):
            pass
        finishing = asyncio.create_task(archiver.finish(30))
        await asyncio.wait_for(given_up.wait(), 5)
        assert not finishing.done()
        gate.set()
        data = await read_on(made)
        await asyncio.wait_for(finishing, 5)

    assert data.count(b"PK\1\2") == len(TREE)
    assert other.opened < len(TREE)
    await alone()
    assert (await obtained(archiver, plans[0], source))[0] == "hit"
    assert (await obtained(archiver, plans[1], other))[0] == "miss"


async def test_to_finish_takes_no_longer_than_the_limit(archiver: Archiver) -> None:
    source = Fetched(TREE, gate=asyncio.Event())
    plan = await plan_by(archiver, source)
    async with AsyncExitStack() as owner, await begun(archiver, plan, source, owner) as made:
        await asyncio.wait_for(archiver.finish(0.1), 1)
        with pytest.raises(StreamBroken):
            await made.completed()


async def test_who_comes_while_a_maker_finishes_gets_all_of_it(
    archiver: Archiver, directory: Path
) -> None:
    """It is followed, or made anew: nobody begins to follow what is about to be given up."""

    async def finish(after_s: float) -> None:
        await asyncio.sleep(after_s)
        await archiver.finish(30)

    results = set()
    async with Archiver.running(str(directory), BUDGET, processes=1, most_builds=30) as following:
        for number in range(30):
            source = Fetched({**TREE, b"%d" % number: b"x"}, pause_s=0.001)
            plan = await plan_by(archiver, source)
            async with AsyncExitStack() as owner, await begun(archiver, plan, source, owner):
                pass
            finishing = asyncio.create_task(finish(number * 0.0002))
            await asyncio.sleep(0.002)
            result, data = await obtained(following, plan, source)
            await finishing
            assert data.count(b"PK\1\2") == len(source.members)
            results.add(result)

    assert results >= {"follow", "miss"}


async def test_a_request_that_is_cancelled_anywhere_leaves_nothing_reserved(
    archiver: Archiver, directory: Path
) -> None:
    before = descriptors()
    for number in range(40):
        source = Fetched({**TREE, b"%d" % number: b"x"})
        plan = await plan_by(archiver, source)
        request = asyncio.create_task(obtained(archiver, plan, source))
        await asyncio.sleep(number * 0.0002)
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
        await settled(directory)

    async with asyncio.timeout(5):
        while descriptors() > before:
            await asyncio.sleep(0.01)
    assert all(os.stat(directory / name).st_mode & 0o777 == 0o400 for name in names(directory))
