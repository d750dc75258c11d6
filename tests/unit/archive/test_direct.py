"""Archives that go straight to their one reader."""

import asyncio
from contextlib import aclosing, nullcontext
from pathlib import Path

import pytest

from gateway.archive.bodies import Source
from gateway.archive.direct import Direct
from gateway.archive.helpers import Helpers
from gateway.archive.plan import Plan
from gateway.domain.archives import Format
from gateway.domain.errors import StreamBroken
from tests.unit.archive.spools import descriptors
from tests.unit.archive.trees import (
    Fetched,
    Tree,
    archive,
    noise,
    opened,
    plan_of,
    text,
    write,
)

TREE: Tree = {
    b"large": text(1, 2_500_000),
    **{b"%02d" % number: noise(number, 50_000) for number in range(20)},
}


def straight(plan: Plan, source: Source, helpers: Helpers, *, longest_s: float = 60.0) -> Direct:
    return Direct(plan, source, helpers, nullcontext(), longest_s)


async def read(direct: Direct, first: int = 0, count: int | None = None) -> bytes:
    return b"".join([piece async for piece in direct.chunks(first, count)])


async def read_slowly(direct: Direct, pause_s: float) -> None:
    async with aclosing(direct.chunks(0, None)) as pieces:
        async for _ in pieces:
            await asyncio.sleep(pause_s)


@pytest.mark.parametrize("form", list(Format))
async def test_it_is_measured_and_read_in_parts(
    tmp_path: Path, helpers: Helpers, form: Format
) -> None:
    source = Fetched(TREE)
    plan = plan_of(source.members, form)
    expected = await archive(plan, source, helpers, tmp_path / "expected")
    direct, size = straight(plan, source, helpers), len(expected)

    assert direct.size == plan.size
    assert await read(direct) == expected
    assert await direct.measure() == direct.size == size
    for first, count in [(0, size), (0, 1), (1, 0), (size - 1, 1), (300_000, 500_000), (size, 0)]:
        assert await read(direct, first, count) == expected[first : first + count]
        assert await read(direct, first) == expected[first:]


async def test_a_reader_may_stop_early(helpers: Helpers) -> None:
    """Then nothing is read any more."""
    before, tasks = descriptors(), len(asyncio.all_tasks())
    source = Fetched(TREE, pause_s=0.002)
    direct = straight(plan_of(source.members, Format.ZIP), source, helpers)

    async with aclosing(direct.chunks(0, None)) as pieces:
        async for piece in pieces:
            assert piece
            break

    assert source.at_once == 0
    async with asyncio.timeout(5):
        while descriptors() > before or len(asyncio.all_tasks()) > tasks:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("slow", ["executor", "reader"])
async def test_it_breaks_when_its_time_is_over(helpers: Helpers, slow: str) -> None:
    before, tasks = descriptors(), len(asyncio.all_tasks())
    source = Fetched(TREE, pause_s=0.05 if slow == "executor" else 0.0)
    plan = plan_of(source.members, Format.TAR)
    direct = straight(plan, source, helpers, longest_s=0.3)

    with pytest.raises(StreamBroken, match="too long"):
        await read_slowly(direct, 0.05 if slow == "reader" else 0.0)

    assert source.at_once == 0
    async with asyncio.timeout(5):
        while descriptors() > before or len(asyncio.all_tasks()) > tasks:
            await asyncio.sleep(0.01)


async def test_no_more_is_made_than_a_slow_reader_takes(helpers: Helpers) -> None:
    source = Fetched({b"%03d" % number: noise(number, 100_000) for number in range(300)})
    direct = straight(plan_of(source.members, Format.TAR), source, helpers)

    async with aclosing(direct.chunks(0, None)) as pieces:
        await anext(pieces)
        await asyncio.sleep(0.3)
        assert source.opened < 150


async def test_a_member_that_breaks_off_breaks_the_archive(helpers: Helpers) -> None:
    source = Fetched(TREE)
    direct = straight(plan_of(source.members, Format.TAR_GZ), source, helpers)
    source.now[b"10"] = b"short"

    with pytest.raises(StreamBroken, match=r"^10: "):
        await read(direct)
    with pytest.raises(StreamBroken, match=r"^10: "):
        await direct.measure()


@pytest.mark.parametrize(
    ("before", "after"),
    [(bytes(300_000), noise(1, 300_000)), (noise(1, 300_000), bytes(300_000))],
    ids=["longer", "shorter"],
)
async def test_an_archive_that_was_measured_is_never_cut_or_drawn_out_to_that(
    tmp_path: Path, helpers: Helpers, before: bytes, after: bytes
) -> None:
    """A member may be written to while it keeps its size; what comes is then of another one."""
    root = tmp_path / "tree"
    write(root, {b"a": text(1, 100_000), b"b": before, b"c": text(2, 400_000)})
    with opened(root) as source:
        direct = straight(plan_of(source.members, Format.ZIP), source, helpers)
        size = await direct.measure()
        (root / "b").write_bytes(after)
        for first in (0, size // 2, size - 1):
            came = bytearray()
            with pytest.raises(StreamBroken, match=r"than it was|it has changed"):
                await _read_into(came, direct, first, size - first)
            assert len(came) < size - first


async def _read_into(data: bytearray, direct: Direct, first: int, count: int) -> None:
    async for piece in direct.chunks(first, count):
        data += piece
