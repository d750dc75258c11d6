"""What hostile workspaces hold, packed by a gateway and opened by other people's tools."""

import asyncio
import io
import os
import socket
import statistics
import subprocess
import tarfile
import time
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests import needs
from tests.conftest import ResolverName
from tests.gateways import AUTH, Gateway, command, key_entry, plant, resolved_by, running
from tests.wire import Answer, ask

ARCHIVE = "/api/v1/sessions/s1/archive"
OUTSIDE = b"bytes from outside the workspace"
LIMITS = {
    "file": "1MiB",
    "archive_bytes": "4MiB",
    "archive_entries": 50,
    "depth": 20,
    "archives_at_once": 60,
}


def allowed(resolver: str) -> dict[str, Any]:
    """Settings for a key that may have archives within `LIMITS`."""
    key = key_entry(scopes=["archives:read"])
    return {**resolved_by(resolver), "auth": {"keys": [key]}, "limits": LIMITS}


@pytest.fixture
async def gateway(root: Path, resolver: ResolverName) -> AsyncIterator[Gateway]:
    async with running(root, allowed(resolver)) as gateway:
        yield gateway


def names_in(answer: Answer) -> list[str]:
    assert (answer.status, answer.complete) == (200, True)
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert archive.testzip() is None
        return archive.namelist()


async def test_links_that_leave_and_special_files_are_left_out(
    gateway: Gateway, root: Path
) -> None:
    """Rows 11, 12, 17 and 18: at once, counted, and nothing of them anywhere."""
    plant(root, {"secret/f": OUTSIDE})
    links = {"etc": "/etc/passwd", "up": "../secret/f", "directory": "../secret", "loop": "loop"}
    plant(root / "s1", {"kept": b"kept", "inside": "kept", **links})
    os.mkfifo(root / "s1" / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(root / "s1" / "socket"))

        since = time.monotonic()
        answer = await gateway.ask(ARCHIVE)

        assert time.monotonic() - since < 1
        told = await gateway.ask(ARCHIVE + "?manifest=true")
    assert names_in(answer) == ["inside", "kept"]
    assert answer.header("X-Archive-Skipped") == "6"
    assert OUTSIDE not in answer.body
    with zipfile.ZipFile(io.BytesIO(told.body)) as archive:
        manifest = orjson.loads(archive.read(".workspace-manifest.json"))
    assert manifest["paths"] == sorted([*links, "fifo", "socket"])


async def test_fifos_keep_nobody_waiting(
    tmp_path: Path, root: Path, resolver: ResolverName
) -> None:
    """Row 17: fifty archives of them in parallel."""
    plant(root / "s1", {"kept": b"kept"})
    for number in range(20):
        os.mkfifo(root / "s1" / f"fifo{number}")
    with command(tmp_path, root, allowed(resolver)) as process:
        asking = asyncio.gather(
            *(ask(process.port, f"{ARCHIVE}?exclude={n}", AUTH) for n in range(50))
        )
        took_s = []
        while not asking.done():
            since = time.monotonic()
            assert (await ask(process.port, "/livez")).status == 200
            took_s.append(time.monotonic() - since)

        assert statistics.median(took_s) < 0.2
        assert max(took_s) < 2
        for answer in await asking:
            assert names_in(answer) == ["kept"]
            assert answer.header("X-Archive-Skipped") == "20"


NAMES = [
    *(r"..\..\e.bat", r"C:\e", "CON", "aux.txt", "a:b", "A", "a", "trailing.", "trailing "),
    *("new\nline", "bidi\u202egnp.exe", "-rf", "~", "*?", "é", "e\u0301", "\x1b[31m"),
    *("x" * 255, "d/..x/...", "%2e%2e/x"),
]


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz", "tar.zst"])
async def test_hostile_names_stay_where_they_are_unpacked(
    gateway: Gateway, root: Path, tmp_path: Path, form: str
) -> None:
    """Row 26: all of them, under names that are unique, whoever unpacks."""
    plant(root / "s1", {**{name: name.encode() for name in NAMES}, b"not \xff\xfe utf-8": b"raw"})
    answer = await gateway.ask(f"{ARCHIVE}?format={form}")
    assert (answer.status, answer.complete) == (200, True)
    file = tmp_path / f"archive.{form}"
    file.write_bytes(answer.body)

    tools = ["bsdtar -xf", "tar -xf"] if form != "zip" else ["bsdtar -xf", "unzip -q"]
    for tool in tools:
        into = tmp_path / tool.split()[0] / "into"
        into.mkdir(parents=True)
        subprocess.run(
            (needs.program(tool.split()[0]), *tool.split()[1:], str(file)),
            cwd=into,
            check=True,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
        assert os.listdir(into.parent) == ["into"]
        got = sorted(path.read_bytes() for path in into.rglob("*") if path.is_file())
        assert got == sorted([*(name.encode() for name in NAMES), b"raw"])
    if form == "zip":
        folded = [name.casefold() for name in names_in(answer)]
        assert len(set(folded)) == len(folded)
        assert not any(set(name) & set('\\:*?"<>|\n\x1b\u202e') for name in folded)


@pytest.mark.parametrize("form", ["zip", "tar"])
async def test_times_that_archives_cannot_have(gateway: Gateway, root: Path, form: str) -> None:
    """Row 27: the zip's are as near as it can."""
    times = {"epoch": 0, "before": -1, "late": 7_258_118_400, "never": 2**33}
    for name, seconds in times.items():
        plant(root / "s1", {name: b"x"})
        os.utime(root / "s1" / name, (seconds, seconds))

    answer = await gateway.ask(f"{ARCHIVE}?format={form}")

    assert (answer.status, answer.complete) == (200, True)
    if form == "zip":
        assert sorted(names_in(answer)) == sorted(times)
        with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
            assert {1980 <= info.date_time[0] <= 2107 for info in archive.infolist()} == {True}
    else:
        with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
            assert sorted(tar.getnames()) == sorted(times)


async def test_what_is_over_a_limit_is_refused_before_anything_is_sent(
    gateway: Gateway, root: Path
) -> None:
    """Row 28: at once, whatever it would have been, and what it was is named."""
    with (root / "s1" / "huge.bin").open("wb") as sparse:
        sparse.truncate(10 << 30)
    plant(root / "many", {f"{number}": b"" for number in range(51)})
    plant(root / "deep", {"/".join("d" * 30): None})
    plant(root / "total", {f"{number}": bytes(1 << 20) for number in range(5)})

    named = {"s1": ("huge.bin", "exclude"), "many": ("50",), "deep": ("20",), "total": ("4",)}
    for session, words in named.items():
        for target in (
            f"/api/v1/sessions/{session}/archive",
            f"/v1/sessions/{session}/workspace.zip",
            f"/api/v1/tasks/{session}/files/download",
        ):
            since = time.monotonic()
            answer = await gateway.ask(target)
            assert time.monotonic() - since < 2
            assert answer.status == 413
            for word in words:
                assert word in answer.json["error"]
    without = await gateway.ask(f"{ARCHIVE}?exclude=huge.bin")
    assert names_in(without) == []
