"""SQLite: where its file is, whose it is, and what is said when it cannot be one."""

import asyncio
import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from gateway.config.store_url import IN_MEMORY, sqlite_url
from gateway.domain.errors import StoreUnavailable, StoreUnusable
from gateway.store.store import opened
from tests import needs
from tests.stores import session


async def test_only_the_gateways_user_may_read_what_is_made(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        async with opened(sqlite_url(str(tmp_path / "state" / "gateway.db"))) as store:
            await store.sessions.create(session())
            files = list((tmp_path / "state").iterdir())
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in files}
    finally:
        os.umask(old)

    assert set(modes) >= {"gateway.db", "gateway.db-wal"}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


async def test_a_relative_path_starts_where_the_gateway_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async with opened("sqlite:///var/gateway.db"):
        assert (tmp_path / "var" / "gateway.db").is_file()


def _text(file: Path) -> None:
    file.write_text("these are notes, and no database at all\n" * 100)


def _directory(file: Path) -> None:
    file.mkdir()


def _below_a_file(file: Path) -> None:
    file.parent.rmdir()
    file.parent.write_text("")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_text, "file is not a database"),
        (_directory, "unable to open database file"),
        (_below_a_file, "File exists|Not a directory"),
    ],
)
async def test_what_cannot_be_a_store_is_refused_at_the_start(
    tmp_path: Path, make: Callable[[Path], None], reason: str
) -> None:
    file = tmp_path / "var" / "gateway.db"
    file.parent.mkdir()
    make(file)

    with pytest.raises(StoreUnusable, match=rf"^store\.url: cannot .*gateway.db': ({reason})$"):
        async with opened(sqlite_url(str(file))):
            pass


async def test_a_disk_that_is_full_is_an_outage(tmp_path: Path) -> None:
    needs.root()
    mounted = tmp_path / "small"
    mounted.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mounted)]
    process = await asyncio.create_subprocess_exec(*mount)
    if await process.wait() != 0:
        needs.missing("needs to mount a tmpfs")
    try:
        async with opened(sqlite_url(str(mounted / "gateway.db"))) as store:
            await store.sessions.create(session(1))
            with pytest.raises(StoreUnavailable):
                await store.sessions.create(session(2, name="x" * 1_000_000))

            assert await store.sessions.find("sess_1", "acme") is not None
    finally:
        await (await asyncio.create_subprocess_exec("umount", str(mounted))).wait()


async def test_many_opens_and_closes_leave_nothing_behind(tmp_path: Path) -> None:
    def held() -> int:
        return len(os.listdir("/proc/self/fd"))

    url = sqlite_url(str(tmp_path / "gateway.db"))
    async with opened(url) as store:
        await asyncio.gather(*(store.sessions.find("x", "acme") for _ in range(20)))
    before = held()

    for _ in range(20):
        async with opened(url) as store:
            await asyncio.gather(*(store.sessions.find("x", "acme") for _ in range(20)))

    assert held() <= before


async def test_the_database_is_whole_after_many_writers(tmp_path: Path) -> None:
    file = tmp_path / "gateway.db"
    async with opened(sqlite_url(str(file))) as store:
        await asyncio.gather(*(store.sessions.create(session()) for _ in range(100)))

    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]


async def test_a_store_that_somebody_else_is_making_is_waited_for(tmp_path: Path) -> None:
    """SQLite itself waits for no lock when it changes the journal's mode."""
    file = tmp_path / "gateway.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        opening = opened(sqlite_url(str(file)))
        entering = asyncio.create_task(opening.__aenter__())
        await asyncio.sleep(0.3)
        assert not entering.done()
        other.execute("ROLLBACK")

        store = await entering
        await store.sessions.create(session(1))
        await opening.__aexit__(None, None, None)


def _locks(file: Path) -> list[str]:
    """Which locks this process has on the file, as the kernel lists them."""
    ours = f" {os.getpid()} ", f":{file.stat().st_ino} "
    lines = Path("/proc/locks").read_text().splitlines()
    return [line.partition(":")[2] for line in lines if all(part in line for part in ours)]


async def test_opening_a_store_once_more_takes_no_lock_from_the_one_in_use(tmp_path: Path) -> None:
    """As a reload does; without its locks, another process would take it for unused."""
    file = tmp_path / "gateway.db"
    async with opened(sqlite_url(str(file))) as store:
        await store.check()
        before = _locks(file)
        async with opened(sqlite_url(str(file))):
            pass

        assert before
        assert _locks(file) == before


async def test_two_stores_in_memory_share_nothing() -> None:
    async with opened(IN_MEMORY) as one, opened(IN_MEMORY) as other:
        await one.sessions.create(session(1))

        assert await other.sessions.find("sess_1", "acme") is None
