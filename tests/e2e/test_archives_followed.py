"""Archives that somebody else sends than who makes them: the maker is told to end meanwhile."""

import asyncio
import fcntl
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.archiving import ARCHIVE, assert_builds, began, mixed, packing
from tests.e2e.halting import halted
from tests.e2e.operating import Clients, children, descriptors, eventually, logged
from tests.gateways import Process, command
from tests.wire import Wire

TWO = ("--workers", "2")
SIZE = 8  # MB of a file
GZIP = ARCHIVE + "?format=tar.gz"  # whose first bytes are there at once


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def settings(spool: Path, drain: str = "30s") -> Mapping[str, Any]:
    return packing({"server": {"drain": drain}, "spool": {"dir": str(spool)}})


async def left_alone(process: Process, clients: Clients, spool: Path) -> Path:
    """Have an archive begun whose only reader leaves; it is made on, in that file."""
    reader = await began(process, clients, GZIP)
    assert b" 200 " in await reader.reader.readuntil(b"\r\n\r\n")
    (part,) = spool.glob("part-*")
    await reader.__aexit__()
    await logged(process, "http_request")
    return part


async def followed_elsewhere(process: Process, clients: Clients, spool: Path) -> Wire:
    """Have an archive made by one of two workers for nobody but a client of the other one."""
    part = await left_alone(process, clients, spool)
    (maker,) = [p for p in children(process.popen.pid) if descriptors(p, str(part))]
    (other,) = {*children(process.popen.pid)} - {maker}
    while True:
        reader = await began(process, clients, GZIP)
        await eventually(lambda: descriptors(maker, str(part)) + descriptors(other, str(part)) > 1)
        if descriptors(other, str(part)):
            return reader
        await reader.__aexit__()
        await eventually(lambda: descriptors(maker, str(part)) == 1)


async def test_an_archive_that_another_worker_sends_survives_sigterm(
    tmp_path: Path, root: Path, spool: Path, clients: Clients
) -> None:
    mixed(root, 3, SIZE)
    with command(tmp_path, root, settings(spool), arguments=TWO) as process:
        await logged(process, "serving", 2)
        async with halted(process.popen.pid, workers=2):
            reader = await followed_elsewhere(process, clients, spool)

            process.signal(signal.SIGTERM)
            await logged(process, "draining", 2)
            await asyncio.sleep(0.5)  # in which the maker would be gone
        answer = await reader.answer()

        assert answer.complete
        assert await process.exit_code() == 0
        assert [path.read_bytes() for path in spool.iterdir()] == [answer.body]


@pytest.mark.parametrize("second", [signal.SIGTERM, None], ids=["told twice", "over the limit"])
async def test_no_archive_that_another_worker_sends_holds_up_the_exit(
    tmp_path: Path, root: Path, spool: Path, clients: Clients, second: signal.Signals | None
) -> None:
    mixed(root, 1, SIZE)
    changes = settings(spool, "1s" if second is None else "30s")
    with command(tmp_path, root, changes, arguments=TWO) as process:
        await logged(process, "serving", 2)
        async with halted(process.popen.pid, workers=2):
            reader = await followed_elsewhere(process, clients, spool)

            process.signal(signal.SIGTERM)
            await logged(process, "draining", 2)
            if second is not None:
                process.signal(second)

            assert await process.exit_code() == 0
            assert (await reader.rest())[1] == "reset"
    assert os.listdir(spool) == []


async def test_an_archive_that_nobody_reads_does_not_hold_up_the_exit(
    tmp_path: Path, root: Path, spool: Path, clients: Clients
) -> None:
    mixed(root, 1, SIZE)
    with command(tmp_path, root, settings(spool)) as process:
        async with halted(process.popen.pid):
            await left_alone(process, clients, spool)

            process.signal(signal.SIGTERM)

            assert await process.exit_code() == 0
    assert os.listdir(spool) == []


async def test_an_archive_that_a_new_config_sends_survives_the_end_of_the_old_one(
    tmp_path: Path, root: Path, spool: Path, clients: Clients
) -> None:
    """Whose last reader leaves, while it makes the archive."""
    mixed(root, 3, SIZE)
    with command(tmp_path, root, settings(spool)) as process:
        async with halted(process.popen.pid):
            first = await began(process, clients, GZIP)
            (part,) = await eventually(lambda: [*spool.glob("part-*")])
            process.signal(signal.SIGHUP)
            await logged(process, "reloaded")
            second = await began(process, clients, GZIP)
            await eventually(lambda: descriptors(process.popen.pid, str(part)) == 3)

            await first.__aexit__()
            await logged(process, "http_request")
            await asyncio.sleep(0.5)  # in which what is left of the old config would be gone
        answer = await second.answer()

        assert answer.complete
        await assert_builds(process, 1)
        assert [path.read_bytes() for path in spool.iterdir()] == [answer.body]


@pytest.mark.parametrize("is_old", [False, True], ids=["the config", "an old config"])
async def test_an_archive_that_another_gateway_sends_does_not_hold_up_an_exit_at_once(
    tmp_path: Path, root: Path, spool: Path, clients: Clients, is_old: bool
) -> None:
    mixed(root, 1, SIZE)
    with command(tmp_path, root, settings(spool)) as process:
        async with halted(process.popen.pid):
            part = await left_alone(process, clients, spool)
            with part.open("rb") as followed:
                fcntl.flock(followed, fcntl.LOCK_SH)
                process.signal(signal.SIGHUP if is_old else signal.SIGTERM)
                await logged(process, "reloaded" if is_old else "draining")
                await asyncio.sleep(0.5)
                assert part.exists()

                process.signal(signal.SIGQUIT)

                assert await process.exit_code() == 0
    assert os.listdir(spool) == []
