"""Nothing that may wait for a disk, a lock or a peer is called on the event loop."""

import asyncio
import os
import random
import resource
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockBuster, BlockBusterFunction

from tests import needs
from tests.conftest import ResolverName
from tests.gateways import Gateway, plant, resolved_by, running
from tests.plugins import Noted, registered
from tests.wire import ask

SMALL = random.Random(1).randbytes(100_000)
LARGE = random.Random(2).randbytes(6_000_000)
HALF = random.Random(3).randbytes(16 << 20)

# A small directory on this machine that has not changed since it was listed within the last minute
# is listed again without a trip to the pool.
_LISTED_AGAIN = ("gateway/executors/local/recent.py", {"_entries", "_are_still", "_names"})

# What is called on the loop on purpose, by file and function; each for its own reason.
_DELIBERATE = {
    # After openat2 with RESOLVE_CACHED: the names are in memory, and so are these inodes. The
    # whole function is left to the pool where the file system is another machine's.
    "os.stat": [
        ("gateway/executors/local/opening.py", {"opened_inline", "found_inline"}),
        _LISTED_AGAIN,
    ],
    "os.open": [("gateway/system/resolver.py", {"reopen"})],
    "os.scandir": [_LISTED_AGAIN],
    # The numbers of the process come from /proc, which is memory.
    "io.BufferedReader.read": [("prometheus_client/process_collector.py", {"collect"})],
    "io.TextIOWrapper.read": [("prometheus_client/process_collector.py", {"collect"})],
    "os.listdir": [("prometheus_client/process_collector.py", {"collect"})],
    # Each span is first asked for with RWF_NOWAIT, and fetched by the pool if it is not in memory.
    "os.sendfile": [("gateway/http/transfer.py", {"_send_stretch"})],
}


def _asks_not_to_wait(*arguments: Any, **_: Any) -> bool:
    return len(arguments) > 3 and bool(arguments[3] & os.RWF_NOWAIT)


@pytest.fixture
def guard() -> Iterator[BlockBuster]:
    """Makes every blocking call on a loop raise; also those that blockbuster does not know."""
    buster = BlockBuster()
    for name in ("open", "pread", "readv", "listdir", "fsync", "openat"):
        if hasattr(os, name) and f"os.{name}" not in buster.functions:
            buster.functions[f"os.{name}"] = BlockBusterFunction(os, name)
    buster.functions["os.preadv"] = BlockBusterFunction(
        os, "preadv", can_block_predicate=_asks_not_to_wait
    )
    for name, places in _DELIBERATE.items():
        for file, functions in places:
            buster.functions[name].can_block_in(file, functions)
    yield buster
    buster.deactivate()


@pytest.fixture
async def watched(root: Path, resolver: ResolverName, guard: BlockBuster) -> AsyncIterator[Gateway]:
    plant(root, {"s1/small": SMALL, "s1/large": LARGE, "s1/link": "small", "s1/out": "/etc/passwd"})
    plant(root, {f"s1/d/{n}/{m}": b"" for n in range(20) for m in range(50)})
    async with running(root, resolved_by(resolver)) as gateway:
        guard.activate()
        yield gateway
        guard.deactivate()


def _forget(root: Path) -> None:
    """Take the files out of the page cache."""
    for name in ("small", "large"):
        fd = os.open(root / "s1" / name, os.O_RDONLY)
        try:
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


async def _forgotten(root: Path) -> None:
    await asyncio.to_thread(_forget, root)


async def test_the_guard_guards(guard: BlockBuster) -> None:
    """Or all of the other tests would pass for nothing."""
    guard.activate()
    try:
        with pytest.raises(Exception, match="Blocking call to"):
            os.open("/", os.O_RDONLY)
        with pytest.raises(Exception, match="Blocking call to"):
            os.stat("/")
    finally:
        guard.deactivate()


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize(
    ("raw", "lines", "expected"),
    [
        ("small", (), SMALL),
        ("large", (), LARGE),
        ("link", (), SMALL),
        ("large", ("Range: bytes=5000000-5999999",), LARGE[5_000_000:]),
        ("small?digest=sha256", (), SMALL),
        ("large?digest=sha256", (), LARGE),
    ],
    ids=["small", "large", "link", "range", "small-digest", "large-digest"],
)
async def test_downloads(
    watched: Gateway,
    root: Path,
    raw: str,
    lines: tuple[str, ...],
    expected: bytes,
    cached: bool,
) -> None:
    if cached:
        await watched.file(raw)
    else:
        await _forgotten(root)

    answer = await watched.file(raw, *lines)

    assert answer.status in (200, 206)
    assert answer.body == expected


async def test_the_pool_fetches_what_is_not_in_memory_before_it_is_sent(
    root: Path, resolver: ResolverName, guard: BlockBuster
) -> None:
    """sendfile would wait for the disk on the loop, which the guard lets it."""
    path = root / "s1" / "half"
    await asyncio.to_thread(path.write_bytes, HALF)
    local = {"type": "noted", "resolver": resolver}
    with registered():
        async with running(root, {"executors": {"local": local}}) as gateway:
            await asyncio.to_thread(_forget_middle, path)
            guard.activate()
            answer = await gateway.file("half")
            guard.deactivate()

    assert answer.complete
    assert answer.body == HALF
    (_, first, *_) = Noted.reads  # before it, the bytes that tell the media type
    assert first.start <= len(HALF) // 4 < first.stop


def _from_disk(whose: int) -> int:
    """Bytes that were not in memory when they were asked for."""
    return resource.getrusage(whose).ru_inblock * 512


def _forget_middle(path: Path) -> None:
    """Leave only the first and the last quarter of the file in memory."""
    quarter = len(HALF) // 4
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)  # nothing is read ahead
        for _ in range(50):  # the kernel keeps pages that a processor has just had in hand
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            before = _from_disk(resource.RUSAGE_THREAD)
            for position in (0, 3 * quarter):
                os.pread(fd, quarter, position)
            if _from_disk(resource.RUSAGE_THREAD) - before >= 2 * quarter:
                return
            time.sleep(0.01)
    finally:
        os.close(fd)
    needs.missing("needs a disk whose files leave memory when they are told to")


async def test_parts_and_the_sdk(watched: Gateway, root: Path) -> None:
    await _forgotten(root)
    parts = await watched.file("large", "Range: bytes=0-99,4000000-4000099")
    await _forgotten(root)
    sdk = [await watched.file(raw, "Content-Type: application/json") for raw in ("small", "large")]

    assert parts.status == 206
    assert [answer.json["size_bytes"] for answer in sdk] == [len(SMALL), len(LARGE)]


async def test_listings(watched: Gateway) -> None:
    for query in (
        "",
        "recursive=1",
        "recursive=1&glob=1*&exclude=2",
        "recursive=1&limit=7",
        "path=d/3",
    ):
        for lines in ((), ("Content-Type: application/json",)):
            answer = await watched.files(query, *lines)
            assert answer.status == 200
            assert answer.complete


async def test_refusals(watched: Gateway) -> None:
    statuses = [
        (await watched.file("missing")).status,
        (await watched.file("d")).status,
        (await watched.file("out")).status,
        (await watched.file("../x")).status,
        (await watched.file("small/x")).status,
        (await watched.file("small", "If-None-Match: *")).status,
        (await watched.file("small", 'If-Match: "x"')).status,
        (await watched.file("small", "Range: bytes=100000-")).status,
        (await watched.file("small", session="unknown")).status,
        (await watched.files("path=missing")).status,
        (await ask(watched.port, "/api/v1/sessions/s1/files")).status,
        (await ask(watched.port, "/api/v1/sessions/s1/files", "X-API-Key: wrong")).status,
        (await watched.ask("/nowhere")).status,
        (await watched.ask("/livez")).status,
        (await watched.ask("/readyz")).status,
    ]

    assert statuses == [404, 400, 400, 400, 400, 304, 412, 416, 404, 404, 401, 401, 404, 200, 200]


async def test_metrics(watched: Gateway) -> None:
    assert (await ask(watched.admin_port, "/metrics")).status == 200
