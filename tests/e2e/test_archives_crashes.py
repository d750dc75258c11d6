"""What becomes of an archive whose maker ends: at once, or when it is told to."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests import wire
from tests.e2e.archiving import (
    ARCHIVE,
    BLACKBOX,
    MB,
    ask,
    assert_builds,
    began,
    files_of,
    mixed,
    packing,
    spooled,
    unpacked,
)
from tests.e2e.halting import halted, written
from tests.e2e.operating import Clients, accepts, children, descriptors, eventually, logged
from tests.gateways import command
from tests.wire import Answer, Wire

TWO = ("--workers", "2")


SIZE = 8  # MB of a file, of which there are three
GZIP = "?format=tar.gz"  # whose first bytes are the same for all, and there at once
BLACKBOX_GZIP = BLACKBOX + "?format=tar"


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def settings(spool: Path) -> dict[str, Any]:
    return packing({"spool": {"dir": str(spool)}, "limits": {"archives_at_once": 30}})


def complete(spool: Path) -> list[str]:
    return [name for name in os.listdir(spool) if not name.startswith(("part-", "maker-"))]


async def test_a_killed_gateway_leaves_no_archive(
    tmp_path: Path, root: Path, spool: Path, settings: dict[str, Any], clients: Clients
) -> None:
    """What its reader has is the beginning of what the next one makes."""
    mixed(root, 3, SIZE)
    with command(tmp_path, root, settings) as process:
        async with halted(process.popen.pid) as makers:
            receiving = asyncio.create_task((await began(process, clients)).answer())
            await makers.work(until=lambda: written(spool) > 5 * MB)
            (part,) = spool.glob("part-*")
            process.popen.kill()
            broken = await receiving

    assert len(broken.body) > MB
    assert not broken.complete
    assert complete(spool) == []
    with command(tmp_path, root, settings) as process:
        assert not part.exists()
        rest = await ask(process, ARCHIVE, f"Range: bytes={len(broken.body)}-")
        assert (rest.status, rest.header("ETag")) == (206, broken.header("ETag"))
        assert await spooled(process, 1) == ["miss"]
        await assert_builds(process, 1)
    assert unpacked(broken.body + rest.body) == files_of(root)


async def test_who_waits_in_another_worker_outlives_the_maker(
    tmp_path: Path, root: Path, spool: Path, settings: dict[str, Any], clients: Clients
) -> None:
    """One who has a part of it has to come back; one who has nothing yet gets it all the same."""
    mixed(root, 3, SIZE)
    with command(tmp_path, root, settings, arguments=TWO) as process:
        await logged(process, "serving", 2)
        async with halted(process.popen.pid, workers=2):
            await began(process, clients, ARCHIVE + GZIP)
            (part,) = await eventually(lambda: [*spool.glob("part-*")])
            (maker,) = [p for p in children(process.popen.pid) if descriptors(p, str(part))]
            (other,) = {*children(process.popen.pid)} - {maker}
            waiting: list[Wire] = []
            while not descriptors(other, str(part)):
                waiting.append(await began(process, clients, BLACKBOX_GZIP))
                await logged(process, "audit.archive", 1 + len(waiting))

            os.kill(maker, signal.SIGKILL)
        answers = await asyncio.gather(*map(_answer, waiting))

        given = [answer for answer in answers if answer is not None]
        assert given
        assert {(answer.status, answer.complete) for answer in given} == {(200, True)}
        assert len({answer.body for answer in given}) == 1
        await assert_builds(process, 1)
        assert len(complete(spool)) == 1


async def _answer(reader: Wire) -> Answer | None:
    try:
        return await reader.answer()
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


async def test_an_archive_survives_sigterm(tmp_path: Path, root: Path, clients: Clients) -> None:
    """Row 40: it is made and sent to its end, while new connections are refused."""
    mixed(root, 2, SIZE)
    changes = packing({"server": {"grace": "2s", "drain": "30s"}})
    with command(tmp_path, root, changes) as process:
        readers = [await clients.slow(process.port, "/api/v1/sessions/s1/files/00.bin")]
        readers += [await clients.slow(process.port, ARCHIVE) for _ in range(2)]
        await logged(process, "audit.archive", 2)

        process.signal(signal.SIGTERM)
        await logged(process, "draining")
        assert (await wire.ask(process.port, "/readyz")).status == 503
        await eventually(lambda: not accepts(process.port))
        file, *archives = await asyncio.gather(*(reader.answer() for reader in readers))

        assert file.complete
        assert [archive.complete for archive in archives] == [True, True]
        assert await process.exit_code() == 0
    assert archives[0].body == archives[1].body
    assert unpacked(archives[0].body) == files_of(root)


async def test_an_archive_over_the_drain_limit_is_visibly_broken(
    tmp_path: Path, root: Path, spool: Path, clients: Clients
) -> None:
    mixed(root, 1, SIZE)
    changes = packing({"server": {"drain": "1s"}, "spool": {"dir": str(spool)}})
    with command(tmp_path, root, changes) as process:
        async with halted(process.popen.pid):
            reader = await began(process, clients, ARCHIVE + GZIP)
            assert b" 200 " in await reader.reader.readuntil(b"\r\n\r\n")

            process.signal(signal.SIGTERM)

            assert await process.exit_code() == 0
            assert (await reader.rest())[1] == "reset"
    assert os.listdir(spool) == []


async def test_a_reload_breaks_no_archive(
    tmp_path: Path, root: Path, spool: Path, settings: dict[str, Any], clients: Clients
) -> None:
    """Neither one that is sent, nor what the new config's first request finds being made."""
    mixed(root, 3, SIZE)
    with command(tmp_path, root, settings) as process:
        async with halted(process.popen.pid):
            first = await began(process, clients, ARCHIVE + GZIP)
            await eventually(lambda: [*spool.glob("part-*")])

            process.signal(signal.SIGHUP)
            await logged(process, "reloaded")
            asking = asyncio.create_task(ask(process, BLACKBOX_GZIP))
            await logged(process, "audit.archive", 2)
        second = await asking

        assert (second.status, (await first.answer()).body) == (200, second.body)
        assert second.complete
        await assert_builds(process, 1)
