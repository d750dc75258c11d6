"""Members that are no longer what they were when the archive was planned."""

import asyncio
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest

from gateway.archive.helpers import Helpers
from gateway.archive.jobs import MOST_BYTES
from gateway.domain.archives import Bodies, Format
from gateway.domain.errors import StreamBroken
from tests.conftest import ResolverName
from tests.unit.archive.spools import descriptors
from tests.unit.archive.trees import (
    Fetched,
    OnDisk,
    archive,
    members_of,
    noise,
    opened,
    plan_of,
    text,
    write,
)

SIZES = [5000, 2 * MOST_BYTES + 5]
SECRET = b"a secret of somebody else"


def _replace_by_link(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def _replace_by_other(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(bytes(path.stat().st_size + 1))
    os.utime(other, ns=(0, path.stat().st_mtime_ns))
    other.rename(path)


def _replace_by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _lead_outside(path: Path) -> None:
    path.parent.rename(path.parent.with_name("gone"))
    path.parent.symlink_to(path.parents[2] / "outside")


CHANGES: dict[str, Callable[[Path], None]] = {
    "shrinks": lambda path: os.truncate(path, path.stat().st_size - 1),
    "vanishes": Path.unlink,
    "becomes a link inside": lambda path: _replace_by_link(path, "neighbour"),
    "becomes a link outside": lambda path: _replace_by_link(path, "../../outside/changing"),
    "is replaced": _replace_by_other,
    "becomes a FIFO": _replace_by_fifo,
    "becomes a directory": _replace_by_directory,
    "has a directory that becomes a link": _lead_outside,
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "tree"
    path.mkdir()
    return path


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("change", CHANGES)
async def test_a_member_that_changes_breaks_the_archive(
    root: Path,
    tmp_path: Path,
    helpers: Helpers,
    change: str,
    size: int,
    resolver: ResolverName,
) -> None:
    """The reason names it, and nothing that was written can be taken for whole."""
    write(tmp_path, {b"outside/changing": SECRET * (size // 20)})
    write(root, {b"a": text(1, 9000), b"d/changing": bytes(size), b"d/neighbour": bytes(size)})
    with opened(root, resolver) as source:
        members = source.members
        CHANGES[change](root / "d/changing")
        for form in Format:
            began = monotonic()
            with pytest.raises(StreamBroken, match=r"^d/changing: "):
                await archive(plan_of(members, form), source, helpers, tmp_path / form.value)
            assert monotonic() - began < 5  # a FIFO would hold the reader up for ever

    assert not zipfile.is_zipfile(tmp_path / "zip")
    for form in Format:
        assert SECRET not in (tmp_path / form.value).read_bytes()
    with pytest.raises((tarfile.ReadError, EOFError)), tarfile.open(tmp_path / "tar.gz") as made:
        made.getmembers()


@pytest.mark.parametrize("form", list(Format))
@pytest.mark.parametrize("size", SIZES)
async def test_of_a_member_that_grows_there_is_as_much_as_was_planned(
    root: Path, tmp_path: Path, helpers: Helpers, form: Format, size: int, resolver: ResolverName
) -> None:
    write(root, {b"log": noise(1, size), b"next": b"next"})
    with opened(root, resolver) as source:
        plan = plan_of(source.members, form)
        before = await archive(plan, source, helpers, tmp_path / "before")
        with (root / "log").open("ab") as file:
            file.write(b"more" * 1000)

        assert await archive(plan, source, helpers, tmp_path / "after") == before


BROKEN: dict[str, Callable[[Fetched], None]] = {
    "vanishes": lambda source: source.now.pop(b"d/changing") and None,
    "breaks off": lambda source: source.now.update({b"d/changing": b"short"}),
    "is short": lambda source: (
        source.now.update({b"d/changing": source.now[b"d/changing"][:-1]}),
        setattr(source, "breaks", False),
    )[-1],
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("change", BROKEN)
async def test_a_member_that_cannot_be_fetched_breaks_the_archive(
    tmp_path: Path, helpers: Helpers, change: str, size: int
) -> None:
    source = Fetched({b"d/a": b"a", b"d/changing": noise(1, size), b"d/z": b"z"})
    plan = plan_of(source.members, Format.ZIP)
    BROKEN[change](source)
    before = descriptors()

    with pytest.raises(StreamBroken, match=r"^d/changing: "):
        await archive(plan, source, helpers, tmp_path / "archive")

    assert source.at_once == 0
    await _until(lambda: descriptors() <= before)
    assert not zipfile.is_zipfile(tmp_path / "archive")


async def test_several_members_that_break_off_at_once_are_one_failure(
    tmp_path: Path, helpers: Helpers
) -> None:
    source = Fetched({b"%d" % number: b"data" for number in range(20)}, pause_s=0.01)
    plan = plan_of(source.members, Format.TAR)
    source.now |= dict.fromkeys(source.now, b"")

    with pytest.raises(StreamBroken, match=": "):
        await archive(plan, source, helpers, tmp_path / "archive")


async def test_few_bodies_are_fetched_at_once(tmp_path: Path, helpers: Helpers) -> None:
    tree = {b"%03d" % number: noise(number, 30_000) for number in range(100)}
    source = Fetched({**tree, b"empty": b"", b"d": None}, pause_s=0.001)

    await archive(plan_of(source.members, Format.ZIP), source, helpers, tmp_path / "archive.zip")

    assert source.most_at_once == 8
    assert source.opened == 100  # what is empty, nobody asks for
    with zipfile.ZipFile(tmp_path / "archive.zip") as made:
        assert {name.encode(): made.read(name) for name in made.namelist()} == {
            **tree,
            b"empty": b"",
            b"d/": b"",
        }


@pytest.mark.parametrize("form", list(Format))
async def test_members_may_lie_behind_each_other_in_one_file(
    root: Path, tmp_path: Path, helpers: Helpers, form: Format
) -> None:
    sizes = [0, 10, 700_000, MOST_BYTES, 2 * MOST_BYTES + 1, 3]
    tree = {b"%d" % number: noise(number, size) for number, size in enumerate(sizes)}
    write(root, tree)
    with opened(root) as found:
        plan = plan_of(found.members, form)
        expected = await archive(plan, found, helpers, tmp_path / "by path")
    (tmp_path / "drained").write_bytes(b"noise" + b"".join(tree.values()))
    offsets = [5 + sum(sizes[:number]) for number in range(len(sizes))]

    with (tmp_path / "drained").open("rb") as file:
        source = OnDisk(members_of(root), Bodies(file.fileno(), None, offsets))
        assert await archive(plan, source, helpers, tmp_path / "by offset") == expected
        os.truncate(tmp_path / "drained", offsets[-1])
        with pytest.raises(StreamBroken, match=r"^5: "):
            await archive(plan, source, helpers, tmp_path / "truncated")


async def test_builds_that_are_cancelled_anywhere_leave_nothing_and_disturb_nobody(
    root: Path, tmp_path: Path, helpers: Helpers
) -> None:
    """Descriptors are reused at once: one that was closed too early would be another build's."""
    write(root, {b"%03d" % number: text(number, 40_000) for number in range(150)})
    tree = {b"%03d" % number: noise(number, 20_000) for number in range(100)}
    fetched = Fetched({**tree, b"large": noise(1, 3 * MOST_BYTES)}, pause_s=0.0005)
    before, tasks = descriptors(), len(asyncio.all_tasks())

    with opened(root) as source:
        plan, other = plan_of(source.members, Format.TAR_GZ), plan_of(fetched.members, Format.ZIP)
        expected = await archive(plan, source, helpers, tmp_path / "expected")
        for number in range(60):
            builds = [
                asyncio.create_task(archive(plan, source, helpers, tmp_path / "cancelled")),
                asyncio.create_task(archive(other, fetched, helpers, tmp_path / "cancelled, too")),
            ]
            if number % 20 == 0:
                assert await archive(plan, source, helpers, tmp_path / "whole") == expected
            else:
                await asyncio.sleep(number * 0.0008)
            for build in builds:
                build.cancel()
            await asyncio.gather(*builds, return_exceptions=True)
        assert await archive(plan, source, helpers, tmp_path / "whole") == expected

    assert fetched.at_once == 0
    await _until(lambda: descriptors() <= before)
    assert len(asyncio.all_tasks()) == tasks


async def _until(is_so: Callable[[], bool]) -> None:
    """Jobs that were under way end by themselves."""
    async with asyncio.timeout(5):
        while not is_so():
            await asyncio.sleep(0.01)
