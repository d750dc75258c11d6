"""The helper processes, when they are killed, cannot start, or have to end."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.archive.build import build
from gateway.archive.helpers import Helpers
from gateway.domain.archives import Format
from gateway.system import helper as system
from tests.unit.archive.processes import children, lives, started
from tests.unit.archive.spools import CHECKOUT, descriptors
from tests.unit.archive.trees import archive, opened, plan_of, text, write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "tree"
    write(path, {b"%03d" % number: text(number, 50_000) for number in range(200)})
    return path


async def test_archives_come_right_while_helpers_are_killed(root: Path, tmp_path: Path) -> None:
    """What they were doing is done in the process itself, and others are started."""
    before = children()
    open_before = descriptors()
    async with Helpers.running(2) as helpers:
        first = await started(2, before)
        with opened(root) as source:
            plan = plan_of(source.members, Format.ZIP)
            expected = await archive(plan, source, helpers, tmp_path / "expected")
            for number in range(12):
                build = asyncio.create_task(archive(plan, source, helpers, tmp_path / "made"))
                await asyncio.sleep(number * 0.003)
                for pid in children() - before:
                    os.kill(pid, signal.SIGKILL)
                assert await build == expected
            assert not first & children()
            async with asyncio.timeout(2 * system.RESTART_PAUSE_S + 5):
                while not children() - before:
                    await asyncio.sleep(0.2)
                    assert await archive(plan, source, helpers, tmp_path / "made") == expected

    await started(0, before)
    async with asyncio.timeout(5):
        while descriptors() != open_before:
            await asyncio.sleep(0.01)


async def test_helpers_that_cannot_start_are_done_without(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    with opened(root) as source:
        plan = plan_of(source.members, Format.TAR_ZST)
        async with Helpers.running(2) as helpers:
            expected = await archive(plan, source, helpers, tmp_path / "expected")
        for executable in (broken, tmp_path / "nothing"):
            monkeypatch.setattr(sys, "executable", os.fspath(executable))
            async with Helpers.running(2) as helpers:
                for _ in range(2):
                    made = await archive(plan, source, helpers, tmp_path / "made")
                    assert made == expected


async def test_what_is_left_at_once_leaves_neither_process_nor_descriptor() -> None:
    gc.collect()
    before, open_before = children(), descriptors()
    for number in range(10):
        async with Helpers.running(3):
            await asyncio.sleep(number * 0.01)

    await started(0, before)
    async with asyncio.timeout(5):
        while descriptors() != open_before:
            await asyncio.sleep(0.01)


async def test_shutdown_in_the_middle_of_jobs_ends_the_processes(
    root: Path, tmp_path: Path
) -> None:
    before = children()
    with opened(root) as source:
        plan = plan_of(source.members, Format.ZIP)
        async with Helpers.running(2) as helpers:
            await started(2, before)
            build = asyncio.create_task(archive(plan, source, helpers, tmp_path / "made"))
            await asyncio.sleep(0.02)
            build.cancel()
        await asyncio.gather(build, return_exceptions=True)

        await started(0, before)


class Slow:
    """A sink that waits when it gets something to read, and tells what that was."""

    def __init__(self) -> None:
        self.reading: asyncio.Future[tuple[int, int]] = asyncio.Future()

    async def append(self, data: bytes) -> None:
        pass

    async def append_from(self, descriptor: int, count: int) -> None:
        self.reading.set_result(_identity(descriptor))
        await asyncio.Future()


def _identity(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


async def test_what_may_still_be_read_is_not_written_to_again(root: Path) -> None:
    """A thread goes on with the copy that was waited for."""
    async with Helpers.running(1) as helpers:
        sink = Slow()
        with opened(root) as source:
            plan = plan_of(source.members, Format.ZIP)
            building = asyncio.create_task(build(plan, source, helpers, sink))
            read = await sink.reading
            building.cancel()
            await asyncio.gather(building, return_exceptions=True)

        taken = [helpers.memory.take() for _ in range(50)]
        assert read not in {_identity(descriptor) for descriptor in taken}
        for descriptor in taken:
            os.close(descriptor)


_DYING = """
import asyncio, os, signal, sys
from pathlib import Path
from gateway.archive.helpers import Helpers
from gateway.domain.archives import Format
from tests.unit.archive.processes import started
from tests.unit.archive.trees import packed

async def main(root, pause_s):
    async with Helpers.running(2) as helpers:
        print(*await started(2, set()), flush=True)
        build = asyncio.create_task(packed(Path(root), Format.ZIP, helpers, Path("/dev/null")))
        await asyncio.sleep(float(pause_s))
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("pause_s", ["0", "0.02", "0.2"])
async def test_no_helper_outlives_a_process_that_is_killed(root: Path, pause_s: str) -> None:
    """At its start, in the middle of jobs; and it says nothing about that."""
    done = subprocess.run(
        [sys.executable, "-c", _DYING, root, pause_s],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == -signal.SIGKILL
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2
    async with asyncio.timeout(5):
        while any(lives(pid) for pid in pids):
            await asyncio.sleep(0.01)
    assert done.stderr == ""
