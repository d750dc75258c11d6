"""A broken download goes on where it broke, from any worker, and nothing is compressed twice."""

import asyncio
import os
import random
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from tests import needs
from tests.e2e.archiving import (
    ARCHIVE,
    MB,
    SMALL,
    ask,
    assert_builds,
    builds,
    files_of,
    mixed,
    noise,
    packing,
    spooled,
    unpacked,
)
from tests.e2e.halting import Halted, halted, spool_of, written
from tests.e2e.operating import Clients, eventually, logged
from tests.gateways import AUTH, Process, command, plant
from tests.wire import head

TWO = ("--workers", "2")


def curl(process: Process, *arguments: str, target: str = ARCHIVE) -> Sequence[str]:
    url = f"http://127.0.0.1:{process.port}{target}"
    return (needs.program("curl"), "-sSfg", "--noproxy", "*", "-H", AUTH, *arguments, url)


async def interrupted(process: Process, file: Path, *arguments: str, more: Halted) -> None:
    """Have curl save what is made of the archive, and kill it when it has some of that."""
    before = file.stat().st_size if file.exists() else 0
    popen = subprocess.Popen(curl(process, *arguments))
    await more.work(until=lambda: file.exists() and file.stat().st_size > before + 5 * MB)
    popen.kill()
    popen.wait()


async def test_curl_goes_on_with_what_was_interrupted(tmp_path: Path, root: Path) -> None:
    """While it is made, and once more; nothing is compressed twice.

    With a gigabyte it is the same: `-C -` of curl asks for a range, which waits for the length.
    """
    mixed(root, 6, 8)
    file = tmp_path / "workspace.zip"
    onwards = ("-C", "-", "-o", str(file))
    with command(tmp_path, root, packing(), arguments=TWO) as process:
        async with halted(process.popen.pid, workers=2) as makers:
            await interrupted(process, file, "-o", str(file), more=makers)
            second = await asyncio.create_subprocess_exec(*curl(process, *onwards))
            await logged(process, "audit.archive", 2)
            assert written(spool_of(root))
        assert await second.wait() == 0
        os.truncate(file, 10 * MB)
        third = await asyncio.create_subprocess_exec(*curl(process, *onwards))

        assert await third.wait() == 0
        assert await spooled(process, 3) == ["miss", "follow", "hit"]
        await assert_builds(process, 1)
    subprocess.run((needs.program("unzip"), "-tqq", file), check=True)


async def test_it_goes_on_at_any_offset_in_any_worker_and_after_a_restart(
    tmp_path: Path, root: Path
) -> None:
    plant(root / "s1", {**SMALL, "large": noise(8), "log": b"line\n" * MB})
    positions = random.Random(1)
    with command(tmp_path, root, packing(), arguments=TWO) as process:
        whole = await ask(process)
        size, tag = len(whole.body), whole.header("ETag")
        offsets = [0, 1, 29, 30, 31, size - 22, size - 1]
        offsets += [positions.randrange(size) for _ in range(30)]

        async def goes_on(process: Process) -> None:
            for offset in offsets:
                got = await ask(process, ARCHIVE, f"Range: bytes={offset}-", f"If-Range: {tag}")
                assert (got.status, got.header("ETag")) == (206, tag)
                assert got.header("Content-Range") == f"bytes {offset}-{size - 1}/{size}"
                assert got.body == whole.body[offset:]
            beyond = await ask(process, ARCHIVE, f"Range: bytes={size}-")
            assert (beyond.status, beyond.header("Content-Range")) == (416, f"bytes */{size}")

        assert await spooled(process, 1) == ["miss"]
        await goes_on(process)
        await assert_builds(process, 1)
        results = await spooled(process, 2 + len(offsets))
        assert results == ["miss", *["hit"] * (1 + len(offsets))]
    with command(tmp_path, root, packing(), arguments=TWO) as process:
        await goes_on(process)
        assert await builds(process) == 0


async def test_others_go_on_while_it_is_made(tmp_path: Path, root: Path, clients: Clients) -> None:
    """Their ranges wait for the length, and both workers give the one build's bytes."""
    mixed(root, 3, 8)
    with command(tmp_path, root, packing(), arguments=TWO) as process:
        spans = [(n * 3 * MB + n, n * 3 * MB + n + MB) for n in range(5)]
        async with halted(process.popen.pid, workers=2):
            reader = await clients.connect(process.port)
            await reader.send(head(ARCHIVE, AUTH))
            await eventually(lambda: [*spool_of(root).glob("part-*")])
            asking = [
                asyncio.create_task(ask(process, ARCHIVE, f"Range: bytes={a}-{b - 1}"))
                for a, b in spans
            ]
            await logged(process, "audit.archive", 6)
        parts = await asyncio.gather(*asking)
        whole = await reader.answer()

        assert [part.status for part in parts] == [206] * 5
        assert [part.body for part in parts] == [whole.body[a:b] for a, b in spans]
        assert whole.complete
        assert sorted(map(str, await spooled(process, 6))) == ["follow"] * 5 + ["miss"]
        await assert_builds(process, 1)


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda workspace: (workspace / "a.txt").write_bytes(b"b"),
    "mtime": lambda workspace: os.utime(workspace / "a.txt", (1, 1)),
    "mode": lambda workspace: (workspace / "a.txt").chmod(0o755),
    "name": lambda workspace: (workspace / "a.txt").rename(workspace / "b.txt"),
    "new": lambda workspace: (workspace / "new").mkdir(),
}


async def test_a_changed_workspace_is_a_new_archive_from_its_start(
    tmp_path: Path, root: Path
) -> None:
    """Not a 206 of something else: what the client has of the old one is of no use."""
    plant(root / "s1", SMALL)
    with command(tmp_path, root, packing()) as process:
        tags = [(await ask(process)).header("ETag")]
        for change in CHANGES.values():
            change(root / "s1")

            after = await ask(process, ARCHIVE, "Range: bytes=100-", f"If-Range: {tags[-1]}")
            asked = await ask(process, ARCHIVE, f"If-None-Match: {tags[-1]}", method="HEAD")

            assert (after.status, unpacked(after.body)) == (200, files_of(root))
            assert (asked.status, asked.header("ETag")) == (200, after.header("ETag"))
            assert after.header("ETag") not in tags
            tags.append(after.header("ETag"))
        await assert_builds(process, len(tags))
