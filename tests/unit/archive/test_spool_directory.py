"""The directory of the spool: refused, attacked, tidied by hand, full."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.archive.spool import Spool
from gateway.domain.errors import StreamBroken, Unavailable
from tests import needs
from tests.unit.archive.spools import (
    another_process,
    content,
    descriptors,
    key_of,
    make,
    names,
    read,
    read_on,
)

BUDGET = 1000


async def test_a_missing_directory_is_made_for_us_alone(tmp_path: Path) -> None:
    directory = tmp_path / "cache" / "spool"

    async with Spool.running(str(directory) + "/", BUDGET) as spool:
        await make(spool, 1, 10)

    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / key_of(1)).stat().st_mode & 0o777 == 0o400


async def test_a_foreign_directory_is_refused(tmp_path: Path) -> None:
    needs.root()
    os.chown(tmp_path, 12345, -1)

    await refused(tmp_path, "others own it")


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
async def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)

    await refused(tmp_path, "name a new directory in it")


async def test_a_link_to_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(0o700)
    (tmp_path / "link").symlink_to("real")

    await refused(tmp_path / "link", "Not a directory")
    await refused(f"{tmp_path / 'link'}/", "Not a directory")


async def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")

    for name in ("file", "file/below", "dangling"):
        await refused(tmp_path / name, "cannot be used")


async def refused(directory: Path | str, reason: str) -> None:
    with pytest.raises(Unavailable, match=reason):
        async with Spool.running(str(directory), BUDGET):
            pass


def _writable(path: Path) -> None:
    path.write_bytes(b"half")
    path.chmod(0o600)


PLANTED: dict[str, Callable[[Path], None]] = {
    "a link": lambda path: path.symlink_to(path.parents[1] / "secret"),
    "a hard link": lambda path: path.hardlink_to(path.parents[1] / "secret"),
    "a FIFO": os.mkfifo,
    "a file that is not marked as complete": _writable,
    "an unreadable file": lambda path: path.touch(0o000),
    "a dangling link": lambda path: path.symlink_to("nowhere"),
}


@pytest.mark.parametrize("what", PLANTED)
@pytest.mark.parametrize("prefix", ["", "part-", "maker-"])
async def test_what_is_planted_is_never_served_and_in_nobodys_way(
    tmp_path: Path, what: str, prefix: str
) -> None:
    directory, secret = tmp_path / "spool", tmp_path / "secret"
    secret.write_bytes(b"secret")
    secret.chmod(0o600)

    async with Spool.running(str(directory), BUDGET) as spool:
        PLANTED[what](directory / (prefix + key_of(1)))
        assert await read(spool, 1) is None
        await make(spool, 1, 10)
        assert await read(spool, 1) == content(1, 10)

    assert secret.read_bytes() == b"secret"
    assert secret.stat().st_mode & 0o777 == 0o600


async def test_a_directory_in_the_way_is_an_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / key_of(1)).mkdir()
    (tmp_path / f"part-{key_of(2)}").mkdir()
    before = descriptors()

    async with Spool.running(str(tmp_path), BUDGET) as spool:
        for number in (1, 2):
            assert await read(spool, number) is None
            with pytest.raises(Unavailable):
                await make(spool, number, 10)
        await make(spool, 3, BUDGET)
        assert names(tmp_path) == sorted([key_of(1), f"part-{key_of(2)}", key_of(3)])
    async with asyncio.timeout(5):
        while descriptors() > before:
            await asyncio.sleep(0.01)


async def test_files_with_other_names_are_left_alone(tmp_path: Path) -> None:
    others = ["README", "part-x", f"{key_of(1)}~", f"part-part-{key_of(1)}", "maker-", ".hidden"]
    for name in others:
        (tmp_path / name).write_bytes(b"x" * 5000)

    async with Spool.running(str(tmp_path), BUDGET) as spool:
        await make(spool, 1, BUDGET)

    assert names(tmp_path) == sorted([*others, key_of(1)])


async def test_an_entry_that_is_removed_by_hand_is_missed_and_no_more(tmp_path: Path) -> None:
    async with Spool.running(str(tmp_path), BUDGET) as spool:
        await make(spool, 1, 600)
        found = await spool.find(key_of(1))
        assert found is not None
        async with found:
            (tmp_path / key_of(1)).unlink()

            assert await read_on(found) == content(1, 600)
            assert await read(spool, 1) is None
            await make(spool, 1, 600)


@pytest.mark.parametrize("prefixes", [("part-",), ("maker-",), ("part-", "maker-")])
async def test_a_part_that_is_removed_by_hand_is_still_followed_to_its_end(
    tmp_path: Path, prefixes: tuple[str, ...]
) -> None:
    async with Spool.running(str(tmp_path), BUDGET) as spool:
        growing = await spool.begin(key_of(1), 600)
        assert growing is not None
        found = await spool.find(key_of(1))
        assert found is not None
        async with found:
            async with growing:
                for prefix in prefixes:
                    (tmp_path / (prefix + key_of(1))).unlink()
                await growing.append(content(1, 600))
                await growing.finish()
            assert await read_on(found) == content(1, 600)
        assert await read(spool, 1) in (None, content(1, 600))


async def test_a_second_maker_is_not_disturbed_by_one_whose_files_were_removed(
    tmp_path: Path,
) -> None:
    async with Spool.running(str(tmp_path), BUDGET) as spool:
        first = await spool.begin(key_of(1), 400)
        assert first is not None
        async with first:
            await first.append(content(1, 200))
            for name in names(tmp_path):
                (tmp_path / name).unlink()
            second = await spool.begin(key_of(1), 400)
            assert second is not None
            async with second:
                await second.append(content(1, 100))
                await first.append(content(1, 400)[200:])
                await first.finish()
                assert await read(spool, 1) in (None, content(1, 400))
                await second.append(content(1, 400)[100:])
                await second.finish()
        assert await read(spool, 1) == content(1, 400)


async def test_a_directory_that_vanishes_is_made_again(tmp_path: Path) -> None:
    directory = tmp_path / "spool"
    async with Spool.running(str(directory), BUDGET) as spool:
        await make(spool, 1, 10)
        growing = await spool.begin(key_of(2), 10)
        assert growing is not None
        async with growing:
            shutil.rmtree(directory)
            await growing.append(b"x")
            await growing.finish()

        assert await read(spool, 1) is None
        await make(spool, 1, 10)
        assert await read(spool, 1) == content(1, 10)


async def test_a_directory_that_others_may_write_to_later_is_used_no_more(tmp_path: Path) -> None:
    async with Spool.running(str(tmp_path), BUDGET) as spool:
        await make(spool, 1, 10)
        growing = await spool.begin(key_of(2), 10)
        assert growing is not None
        found = await spool.find(key_of(2))
        assert found is not None
        async with found:
            async with growing:
                tmp_path.chmod(0o777)
                with pytest.raises(Unavailable):
                    await growing.finish()

            with pytest.raises(StreamBroken):
                await found.beyond(0)
        with pytest.raises(Unavailable):
            await spool.find(key_of(1))
        with pytest.raises(Unavailable):
            await spool.begin(key_of(3), 10)


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    needs.root()
    mount = needs.program("mount")
    path = tmp_path / "tiny"
    path.mkdir()
    options = "size=1m,mode=0700"
    done = subprocess.run([mount, "-t", "tmpfs", "-o", options, "tmpfs", path], check=False)
    if done.returncode:
        needs.missing("needs to mount a file system")
    try:
        yield path
    finally:
        subprocess.run([needs.program("umount"), "--lazy", path], check=True)


async def test_there_is_no_room_for_more_than_is_free_on_the_disk(tiny: Path) -> None:
    async with Spool.running(str(tiny), 1 << 30) as spool:
        await make(spool, 1, 400_000)
        await make(spool, 2, 400_000)
        growing = await spool.begin(key_of(3), 400_000)

        assert growing is not None
        async with growing:
            assert await read(spool, 1) is None, "it had to go"
            assert await spool.begin(key_of(4), 700_000) is None
            await growing.append(content(3, 200_000))
            assert await spool.begin(key_of(4), 700_000) is None
            await growing.append(content(3, 400_000)[200_000:])
            await growing.finish()
        assert await read(spool, 3) == content(3, 400_000)


async def test_a_full_disk_leaves_nothing_half(tiny: Path) -> None:
    async with Spool.running(str(tiny), 1 << 30) as spool:
        growing = await spool.begin(key_of(1), 800_000)
        assert growing is not None
        found = await spool.find(key_of(1))
        assert found is not None
        (tiny / "of somebody else").write_bytes(b"x" * 500_000)
        async with found:
            async with growing:
                with pytest.raises(Unavailable, match="No space left"):
                    await growing.append(content(1, 800_000))
                with pytest.raises(ValueError, match="were written"):
                    await growing.finish()

            with pytest.raises(StreamBroken):
                await found.beyond(0)
            assert names(tiny) == ["of somebody else"]
        assert await spool.begin(key_of(1), 800_000) is None
        await make(spool, 1, 400_000)


async def test_a_dead_makers_bytes_are_free_though_somebody_follows(tiny: Path) -> None:
    async with Spool.running(str(tiny), 1 << 30) as spool:
        with another_process(tiny, 1 << 30) as maker:
            assert maker.ask("begin 1 900000") == "begun"
            assert maker.ask("append 1 0 900000") == "appended"
            found = await spool.find(key_of(1))
            assert found is not None
            async with found:
                maker.kill()
                await make(spool, 2, 900_000)
