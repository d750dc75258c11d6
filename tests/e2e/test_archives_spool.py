"""A spool that cannot take an archive delays nobody: it goes straight to who asked for it."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import needs
from tests.e2e.archiving import (
    ARCHIVE,
    BLACKBOX,
    MB,
    SMALL,
    ask,
    builds,
    files_of,
    noise,
    packing,
    spooled,
    text,
    unpacked,
)
from tests.e2e.halting import halted
from tests.e2e.operating import eventually
from tests.gateways import Process, command, plant

FILES = {**SMALL, "noise": noise(6), "log": text(6)}


async def _ended(process: Process, count: int) -> None:
    """Once so many archives are where they stay; readers do not wait for that."""
    async with asyncio.timeout(10):
        while await builds(process) < count:
            await asyncio.sleep(0.02)


@contextmanager
def _tmpfs(where: Path, size: str) -> Iterator[str]:
    needs.root()
    where.mkdir(mode=0o700)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", where],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        needs.missing("needs the right to mount")
    try:
        yield str(where)
    finally:
        subprocess.run(["umount", where], check=True)


@contextmanager
def _full_disk(tmp: Path) -> Iterator[dict[str, Any]]:
    with _tmpfs(tmp / "tiny", "4m") as directory:
        yield {"dir": directory}


@contextmanager
def _no_inodes(tmp: Path) -> Iterator[dict[str, Any]]:
    with _tmpfs(tmp / "tiny", "64m,nr_inodes=1") as directory:
        yield {"dir": directory}


@contextmanager
def _low_limit(tmp: Path) -> Iterator[dict[str, Any]]:
    yield {"dir": str(tmp / "small"), "bytes": "4MiB"}


@contextmanager
def _no_spool(tmp: Path) -> Iterator[dict[str, Any]]:
    yield {"dir": str(tmp / "small"), "bytes": 0}


@pytest.fixture(params=[_full_disk, _no_inodes, _low_limit, _no_spool], ids=lambda f: f.__name__)
def process(request: pytest.FixtureRequest, tmp_path: Path, root: Path) -> Iterator[Process]:
    """A gateway whose spool cannot take an archive of `FILES`."""
    plant(root / "s1", FILES)
    with request.param(tmp_path) as spool, command(tmp_path, root, packing({"spool": spool})) as p:
        yield p


async def test_it_arrives_straight_and_complete(process: Process, root: Path) -> None:
    """With its length where that has to be told, and the parts that are asked for."""
    first = await ask(process)
    second = await ask(process, BLACKBOX)
    size, tag = len(first.body), first.header("ETag")
    third = await ask(process, ARCHIVE, "Range: bytes=5000000-", f"If-Range: {tag}")
    fourth = await ask(process, ARCHIVE, version="1.0")
    fifth = await ask(process, ARCHIVE + "?format=tar")

    assert unpacked(first.body) == files_of(root)
    assert first.complete
    assert second.body == fourth.body == first.body
    assert second.header("Content-Length") == fourth.header("Content-Length") == str(size)
    assert third.body == first.body[5_000_000:]
    assert third.header("Content-Range") == f"bytes 5000000-{size - 1}/{size}"
    assert third.header("ETag") == second.header("ETag") == tag
    assert fifth.header("Content-Length") == str(len(fifth.body))
    assert await spooled(process, 5) == ["bypass"] * 5
    assert await builds(process, "error") == 0


async def test_what_fits_is_kept_all_the_same(tmp_path: Path, root: Path) -> None:
    """And what is there makes room for it."""
    plant(root / "s1", {"noise": noise(2)})
    plant(root / "s2", {"noise": noise(2, 2)})
    changes = packing({"spool": {"dir": str(tmp_path / "spool"), "bytes": "3MiB"}})
    with command(tmp_path, root, changes) as process:
        for number, session in enumerate(("s1", "s1", "s2", "s1"), 1):
            answer = await ask(process, ARCHIVE.replace("s1", session))
            assert unpacked(answer.body) == files_of(root, session)
            # What is still written down, or read, cannot make room.
            results = await spooled(process, number)
            await eventually(lambda: not [*(tmp_path / "spool").glob("*-*")])

        assert results == ["miss", "hit", "miss", "miss"]
    (entry,) = (tmp_path / "spool").iterdir()
    assert entry.stat().st_size < 3 * MB


async def test_a_spool_that_is_removed_under_way(tmp_path: Path, root: Path) -> None:
    """It is made anew: what is there is only worth the time it took."""
    plant(root / "s1", FILES)
    spool = tmp_path / "spool"
    with command(tmp_path, root, packing({"spool": {"dir": str(spool)}})) as process:
        first = await ask(process)
        await _ended(process, 1)
        for file in spool.iterdir():
            file.unlink()
        spool.rmdir()

        again = await ask(process)

        assert again.body == first.body
        assert await spooled(process, 2) == ["miss", "miss"]


async def test_a_disk_that_fills_up_breaks_one_archive_visibly(tmp_path: Path, root: Path) -> None:
    """The next goes straight."""
    plant(root / "s1", {f"{number}": noise(4, number) for number in range(5)})
    with (
        _tmpfs(tmp_path / "tiny", "24m") as directory,
        command(tmp_path, root, packing({"spool": {"dir": directory}})) as process,
    ):
        async with halted(process.popen.pid):
            asking = asyncio.create_task(ask(process, BLACKBOX))
            await eventually(lambda: [*Path(directory).glob("part-*")])
            (Path(directory) / "other").write_bytes(bytes(12 * MB))
        failed = await asking

        assert failed.status == 500
        assert failed.json == {
            "error": "Failed to create archive: the spool cannot be used: No space left on device"
        }
        next_one = await ask(process, BLACKBOX)
        assert unpacked(next_one.body) == files_of(root)
        assert await spooled(process, 2) == ["miss", "bypass"]
        assert os.listdir(directory) == ["other"]
