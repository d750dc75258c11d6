"""Readers of archives who leave, stall, or come in numbers, and those beside them."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from tests import wire
from tests.e2e.archiving import (
    ARCHIVE,
    BLACKBOX,
    MB,
    SMALL,
    ask,
    assert_builds,
    builds,
    files_of,
    misses,
    mixed,
    noise,
    packing,
    spooled,
    unpacked,
)
from tests.e2e.halting import halted, spool_of
from tests.e2e.operating import FILES, Clients, descriptors, eventually, logged
from tests.gateways import AUTH, Process, command, plant
from tests.wire import head

STORED = ARCHIVE + "?stored=true"


async def made(process: Process, count: int = 1) -> None:
    """Wait until so many archives were made."""
    while await builds(process) < count:
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("target", [ARCHIVE, BLACKBOX])
async def test_an_archive_is_made_to_its_end_when_its_reader_leaves(
    tmp_path: Path, root: Path, target: str
) -> None:
    mixed(root, 2, 5)
    with command(tmp_path, root, packing()) as process:
        async with halted(process.popen.pid):
            connection = await wire.Wire.connect(process.port)
            await connection.send(head(target, AUTH))
            async with asyncio.timeout(20):
                while not await misses(process):
                    await asyncio.sleep(0.05)
            await connection.__aexit__()
            await eventually(lambda: '"outcome":"client_left"' in process.log.read_text())
        await asyncio.wait_for(made(process), 20)

        answer = await ask(process, target)

        assert unpacked(answer.body) == files_of(root)
        assert await spooled(process, 2) == ["miss", "hit"]
        await assert_builds(process, 1)


@pytest.mark.parametrize("spool", [{}, {"bytes": 0}], ids=["spooled", "straight"])
async def test_a_reader_that_stalls_is_cut_off(
    tmp_path: Path, root: Path, clients: Clients, spool: dict[str, Any]
) -> None:
    """Row 38: at the idle deadline; its slot and its descriptors are free again."""
    mixed(root, 1, 20)
    changes = packing(
        {"server": {"idle_timeout": "1s"}, "limits": {"archives_at_once": 1}, "spool": spool}
    )
    with command(tmp_path, root, changes) as process:
        assert (await ask(process)).complete

        def taken() -> int:
            """Of files of the workspaces and of the spool."""
            places = f"{root}/", str(spool_of(root))
            return sum(descriptors(process.popen.pid, place) for place in places)

        before = taken()
        since = time.monotonic()
        reader = await clients.slow(process.port, ARCHIVE)
        await logged(process, "audit.archive", 2)
        assert (await ask(process, ARCHIVE + "?format=tar")).status == 429

        assert (await logged(process, "http_request", 3))[-1]["outcome"] == "client_left"
        assert 0.9 < time.monotonic() - since < 8
        data, end = await reader.rest()
        assert end == "reset"
        assert len(data) < 20 * MB
        await eventually(lambda: taken() <= before)
        assert (await ask(process)).complete


async def test_twenty_equal_requests_are_one_build(tmp_path: Path, root: Path) -> None:
    """And each of them one of the archives at once that there may be."""
    mixed(root, 2, 10)
    changes = packing({"limits": {"archives_at_once": 1}})
    with command(tmp_path, root, changes, arguments=("--workers", "2")) as process:
        answers = await asyncio.gather(*(ask(process) for _ in range(20)))

        assert {(answer.status, answer.complete) for answer in answers} == {(200, True)}
        assert len({answer.body for answer in answers}) == 1
        assert unpacked(answers[0].body) == files_of(root)
        await assert_builds(process, 1)
        results = await spooled(process, 20)
        assert results.count("miss") == 1
        assert set(results) <= {"miss", "follow", "hit"}


async def test_only_so_many_archives_at_once(tmp_path: Path, root: Path, clients: Clients) -> None:
    """Row 39: the others of the gateway's clients notice nothing, and leaving frees a slot."""
    for session in ("s1", "s2", "s3"):
        plant(root / session, {**SMALL, "noise": noise(12)})
    changes = packing({"limits": {"archives_at_once": 2}})
    with command(tmp_path, root, changes) as process:
        readers = [
            await clients.slow(process.port, ARCHIVE.replace("s1", session))
            for session in ("s1", "s2")
        ]
        await logged(process, "audit.archive", 2)

        targets = [ARCHIVE, BLACKBOX, "/v1/sessions/s1/workspace.zip"]
        for target in (target.replace("s1", "s3") for target in targets):
            refused = await ask(process, target)
            assert (refused.status, refused.header("Retry-After")) == (429, "5")
        assert (await ask(process, FILES)).status == 200
        assert (await ask(process, FILES + "/a.txt")).body == b"a"
        assert (await wire.ask(process.port, "/livez")).status == 200

        for reader in readers:
            reader.writer.transport.abort()
        since = time.monotonic()
        while (answer := await ask(process, ARCHIVE.replace("s1", "s3"))).status == 429:
            assert time.monotonic() - since < 2
            await asyncio.sleep(0.05)
        assert unpacked(answer.body) == files_of(root, "s3")


async def test_those_beside_archives_notice_nothing(tmp_path: Path, root: Path) -> None:
    """A functional bound: nothing waits for an archive. How fast it is, benchmarks tell."""
    mixed(root, 2, 20)
    for number in range(3000):
        path = root / "s1" / f"d{number % 30}" / f"{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"%d" % number)
    plant(root / "s2", SMALL)
    with command(tmp_path, root, packing()) as process:
        formats = [f"{ARCHIVE}?format={name}" for name in ("zip", "tar", "tar.gz")]
        under_way = asyncio.gather(*(ask(process, target) for target in formats))
        slowest, count = 0.0, 0
        async with await wire.Wire.connect(process.port) as connection:
            while not under_way.done():
                for target in ("/livez", FILES.replace("s1", "s2")):
                    since = time.monotonic()
                    assert (await connection.ask(target, AUTH)).status == 200
                    slowest = max(slowest, time.monotonic() - since)
                    count += 1

        assert {answer.complete for answer in under_way.result()} == {True}
        assert slowest < 2
        assert count > 20


async def test_what_http_asks_of_archives(tmp_path: Path, root: Path) -> None:
    """On one connection: HEAD and 304 have no body that the next answer could be taken for."""
    plant(root / "s1", {**SMALL, "noise": noise(2)})
    with command(tmp_path, root, packing()) as process:
        async with await wire.Wire.connect(process.port) as connection:
            before = await connection.ask(ARCHIVE, AUTH, method="HEAD")
            sized = await connection.ask(BLACKBOX, AUTH, method="HEAD")
            whole = await connection.ask(ARCHIVE, AUTH)
            after = await connection.ask(ARCHIVE, AUTH, method="HEAD")
            tag = whole.header("ETag")
            known = await connection.ask(ARCHIVE, AUTH, f"If-None-Match: {tag}")
            several = await connection.ask(ARCHIVE, AUTH, "Range: bytes=0-3,1000-1009,-22")
            beyond = await connection.ask(ARCHIVE, AUTH, f"Range: bytes={len(whole.body)}-")
            stored = await connection.ask(STORED, AUTH, method="HEAD")
            last = await connection.ask(STORED, AUTH)
        old = await ask(process, ARCHIVE, version="1.0")

        assert before.header("ETag") == sized.header("ETag") == tag
        assert sized.header("Content-Length") == str(len(whole.body))
        assert after.header("Content-Length") == str(len(whole.body))
        assert (known.status, known.header("ETag"), known.body) == (304, tag, b"")
        assert several.status == 206
        assert several.header("Content-Length") == str(len(several.body))
        for part in (whole.body[:4], whole.body[1000:1010], whole.body[-22:]):
            assert b"\r\n\r\n" + part + b"\r\n" in several.body
        assert beyond.status == 416
        assert stored.header("Content-Length") == str(len(last.body))
        assert unpacked(last.body) == unpacked(whole.body) == files_of(root)
        assert (old.body, old.header("Transfer-Encoding")) == (whole.body, None)
        assert old.header("Content-Length") == str(len(whole.body))
