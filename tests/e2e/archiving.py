"""Archives of real gateways: workspaces to pack, requests for them, and what came of it."""

import asyncio
import io
import random
import re
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests import wire
from tests.e2e.operating import Clients, eventually, log_of
from tests.gateways import AUTH, Files, Process, key_entry
from tests.ports import free_port

ARCHIVE = "/api/v1/sessions/s1/archive"
BLACKBOX = "/api/v1/tasks/s1/files/download"
MB = 1 << 20

SMALL: Files = {"a.txt": b"a", "data/b.bin": bytes(range(256)) * 100, "empty/": None}


def packing(changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Settings for a key that may have archives, and for a listener that counts them."""
    changes = changes or {}
    return {
        **changes,
        "auth": {"keys": [key_entry(scopes=["files:read", "archives:read"])]},
        "server": {
            "admin": {"host": "127.0.0.1", "port": free_port()},
            **changes.get("server", {}),
        },
    }


def noise(megabytes: int, seed: int = 1) -> bytes:
    """Bytes that no archive makes smaller: no two of their blocks are alike."""
    block = random.Random(seed).randbytes(MB - 8)
    return b"".join(number.to_bytes(8, "big") + block for number in range(megabytes))


def text(megabytes: int, seed: int = 1) -> bytes:
    """Lines of a log, which become a fraction of their length."""
    numbers = random.Random(seed)
    lines = b"".join(b"%d GET /items/%d 200\n" % (n, numbers.randrange(10**6)) for n in range(4000))
    return (lines * (megabytes * MB // len(lines) + 1))[: megabytes * MB]


def mixed(root: Path, files: int, megabytes: int) -> None:
    """Fill `s1` with so many files of so many megabytes, half of them random, half text."""
    (root / "s1").mkdir(exist_ok=True)
    for number in range(files):
        content = (noise, text)[number % 2](megabytes, number)
        (root / "s1" / f"{number:02}.bin").write_bytes(content)


def files_of(root: Path, session: str = "s1") -> dict[str, bytes]:
    """What lies in a workspace; the name of a directory ends with a slash."""
    found = {}
    for path in (root / session).rglob("*"):
        name = str(path.relative_to(root / session))
        found |= {f"{name}/": b""} if path.is_dir() else {name: path.read_bytes()}
    return found


def unpacked(archive: bytes) -> dict[str, bytes]:
    """The same of a zip file; raises `BadZipFile` unless all checksums are right."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


async def ask(process: Process, target: str = ARCHIVE, *lines: str, **options: str) -> wire.Answer:
    """A request with the good key."""
    return await wire.ask(process.port, target, AUTH, *lines, **options)


async def began(process: Process, clients: Clients, target: str = ARCHIVE) -> wire.Wire:
    """Ask for an archive on a connection of its own."""
    reader = await clients.connect(process.port)
    await reader.send(wire.head(target, AUTH))
    return reader


async def misses(process: Process) -> int:
    """How many archives had to be made, by all workers since the start; each of them will be."""
    return await _counted(process, "spool_requests_total", "miss")


async def builds(process: Process, outcome: str = "ok") -> int:
    """How many archives were made, by all workers since the start."""
    return await _counted(process, "archive_builds_total", outcome)


async def assert_builds(process: Process, count: int) -> None:
    """Fail unless there are so many: readers have the end before a build is done and counted."""
    end = time.monotonic() + 10
    while await builds(process) < count and time.monotonic() < end:
        await asyncio.sleep(0.02)
    assert await builds(process) == count


async def _counted(process: Process, name: str, label: str) -> int:
    config = yaml.safe_load(process.log.with_name("gateway.yaml").read_text())
    page = (await wire.ask(config["server"]["admin"]["port"], "/metrics")).body.decode()
    lines = re.findall(rf"^workspace_gateway_{name}\{{(.*)\}} (\S+)$", page, re.MULTILINE)
    return int(sum(float(value) for labels, value in lines if f'="{label}"' in labels))


async def spooled(process: Process, count: int) -> list[str | None]:
    """Where the archives came from that were asked for, once *count* have been answered."""

    def answered() -> list[str | None] | None:
        found = [line["spool"] for line in log_of(process, "http_request") if "spool" in line]
        return found if len(found) >= count else None

    found: list[str | None] = await eventually(answered)
    assert len(found) == count
    return found
