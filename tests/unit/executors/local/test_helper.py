"""The helper process: finds what a walk here finds, is not missed when lost, and leaves nothing."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path

import pytest

from gateway.domain.model import Row
from gateway.domain.paths import WorkspacePath
from gateway.executors.local import helper as helper_module
from gateway.executors.local.helper import Helper
from gateway.executors.local.local import Local
from gateway.executors.local.tree import Area, walk_rows
from gateway.system.helper import RESTART_PAUSE_S, HelperLost
from gateway.system.resolver import choose
from tests.unit.executors.local.rig import RESOLVERS, Place, listed, open_files, running

PREFIX = "/workspace"


def helpers_of(parent: int) -> list[int]:
    """The helper processes that *parent* has started, the oldest first."""
    pids = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, above = stat[stat.rindex(")") + 2 :].split()[:2]
        if int(above) == parent and state != "Z" and b"helper_process" in command:
            pids.append(int(pid))
    return sorted(pids)


def until(is_so: Callable[[], bool], within_s: float = 10) -> None:
    end = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat[stat.rindex(")") + 2] == "Z"


@pytest.fixture
def wide(place: Place) -> Place:
    for number in range(6_000):
        path = place.session / f"d{number // 200:02}" / f"f{number:04}"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return place


@contextmanager
def area_of(place: Place, path: str = ".") -> Iterator[Area]:
    session = os.open(place.session, os.O_PATH)
    base = os.open(path, os.O_RDONLY, dir_fd=session)
    parts = () if path == "." else tuple(os.fsencode(path).split(b"/"))
    try:
        yield Area(session, base, parts, 100)
    finally:
        os.close(session)
        os.close(base)


@pytest.fixture
def helper() -> Iterator[Helper]:
    helper = Helper("openat2", PREFIX)
    yield helper
    helper.close()


def found(batches: Generator[list[Row], None, None]) -> list[Row]:
    with closing(batches):
        return list(chain.from_iterable(batches))


@pytest.mark.parametrize("name", RESOLVERS)
@pytest.mark.parametrize(
    ("path", "after"),
    [
        (".", None),
        (".", (b"odd\xff",)),
        (".", (b"deep", b"a", b"b", b"c", b"a-gone")),
        (".", (b"zzz",)),
        ("deep", None),
        ("deep/a", (b"deep", b"a", b"b")),
    ],
)
def test_the_helper_finds_what_a_walk_here_finds(
    place: Place, name: str, path: str, after: tuple[bytes, ...] | None
) -> None:
    for file in ("deep/a/b/c/d/e", "deep/a/b/z", "deep/z", "odd\udcff/new\nline", "plain"):
        place.file(file)
    for link, text in [
        ("to-file", "deep/z"),
        ("to-directory", "deep"),
        ("out", "/etc/passwd"),
        ("dangling", "missing"),
        ("by-prefix", f"{PREFIX}/deep/z"),
    ]:
        place.link(link, text)
    os.mkfifo(place.session / "fifo")
    os.utime(place.file("old"), ns=(-(10**18), -(10**18)))
    helper = Helper(name, PREFIX)

    with area_of(place, path) as area:
        here = found(walk_rows(choose(name, PREFIX), area, after))
        there = found(helper.walk_rows(area, after))
    helper.close()

    assert here == there


async def test_a_long_walk_waits_for_the_helper_and_a_short_one_does_not(
    wide: Place, executor: Local
) -> None:
    await listed(executor)
    (pid,) = helpers_of(os.getpid())
    os.kill(pid, signal.SIGSTOP)
    try:
        assert len(await listed(executor, "d00")) == 200
        long = asyncio.create_task(listed(executor))
        await asyncio.sleep(0.3)
        assert not long.done()
    finally:
        os.kill(pid, signal.SIGCONT)

    assert len(await long) == 6_030


@pytest.mark.parametrize("seen", [0, 1_000, 4_000])
async def test_a_helper_that_is_killed_is_not_missed(wide: Place, seen: int) -> None:
    async with running(wide) as executor:
        everything = await listed(executor)
        (pid,) = helpers_of(os.getpid())
        before = open_files()
        entries = []
        async with executor.walk("s1", WorkspacePath(), depth=9) as walk:
            async for batch in walk:
                if len(entries) >= seen and not is_gone(pid):
                    os.kill(pid, signal.SIGKILL)
                    await asyncio.to_thread(until, lambda: is_gone(pid))
                entries += batch
        again = await listed(executor)

        assert everything == entries == again
        assert is_gone(pid)
        assert open_files() <= before


def test_a_helper_that_died_is_replaced_but_not_all_the_time(wide: Place, helper: Helper) -> None:
    with area_of(wide) as area:
        assert len(found(helper.walk_rows(area, None))) == 6_030
        (first,) = helpers_of(os.getpid())
        os.kill(first, signal.SIGKILL)
        until(lambda: is_gone(first))
        with pytest.raises(HelperLost):
            found(helper.walk_rows(area, None))
        assert helpers_of(os.getpid()) == []

        time.sleep(RESTART_PAUSE_S)
        assert len(found(helper.walk_rows(area, None))) == 6_030
    (second,) = helpers_of(os.getpid())
    assert second != first


def test_it_walks_only_so_many_areas_at_a_time(wide: Place, helper: Helper) -> None:
    with area_of(wide) as area:
        walks = [helper.walk_rows(area, None) for _ in range(helper_module.MOST_WALKS)]
        for walk in walks:
            next(walk)
        with pytest.raises(HelperLost):
            next(helper.walk_rows(area, None))
        walks[0].close()

        assert len(found(helper.walk_rows(area, None))) == 6_030
        assert len(found(walks[-1])) > 5_000
        for walk in walks:
            walk.close()


async def test_leaving_a_walk_frees_what_the_helper_holds(wide: Place) -> None:
    async with running(wide) as executor:
        await listed(executor)
        (pid,) = helpers_of(os.getpid())

        def held() -> tuple[int, int]:
            return len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))

        until(lambda: held()[1] == 1)
        before = held()
        for number in range(20):
            task = asyncio.create_task(listed(executor))
            await asyncio.sleep(number / 1000)
            task.cancel()
            await asyncio.wait([task])
        await asyncio.to_thread(until, lambda: held() == before)


@pytest.mark.parametrize("state", ["idle", "stopped"])
async def test_it_ends_with_the_executor(wide: Place, state: str) -> None:
    async with running(wide) as executor:
        await listed(executor)
        (pid,) = helpers_of(os.getpid())
        if state == "stopped":
            os.kill(pid, signal.SIGSTOP)
        assert not is_gone(pid)

    await asyncio.to_thread(until, lambda: not os.path.exists(f"/proc/{pid}"))


HOLDER = """
import os, time
from gateway.executors.local.helper import Helper
from gateway.executors.local.tree import Area
root = os.open("/", os.O_RDONLY)
helper = Helper("components", None)
next(helper.walk_rows(Area(root, root, (), 1), None))
print("started", flush=True)
time.sleep(60)
"""


def test_it_ends_with_the_gateway_however_that_ends() -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER], cwd=Path(__file__).parents[4], stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"started\n"
        (pid,) = helpers_of(holder.pid)
        holder.kill()

    until(lambda: is_gone(pid))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_the_signals_of_a_service_manager_do_not_end_it(
    wide: Place, helper: Helper, number: signal.Signals
) -> None:
    with area_of(wide) as area:
        rows = helper.walk_rows(area, None)
        next(rows)  # by now it has set itself up
        (pid,) = helpers_of(os.getpid())
        os.kill(pid, number)

        assert len(found(rows)) > 5_000
        assert helpers_of(os.getpid()) == [pid]
