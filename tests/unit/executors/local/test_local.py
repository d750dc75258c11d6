"""The executor as a whole: its config, its start, and a root that comes and goes."""

import asyncio
import os
import re
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.domain.errors import Unavailable
from gateway.domain.model import Entry, Kind
from gateway.domain.paths import WorkspacePath
from gateway.executors.local.local import Local, LocalConfig
from gateway.executors.local.readahead import ListedWalk
from gateway.executors.local.recent import RecentListings
from gateway.executors.local.tree import FIRST_BATCH
from gateway.executors.registry import executor_class
from tests.unit.executors.local.rig import (
    RESOLVERS,
    Place,
    content,
    open_files,
    outcome,
    running,
)

UNREADABLE_ROOT = (Unavailable, "the workspace root cannot be read")


def test_the_registry_knows_it() -> None:
    assert executor_class("local") is Local


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"root": ""}, "must not be empty"),
        ({"root": "a\0b"}, "must not contain a NUL character"),
        ({"resolver": "realpath"}, "should be 'auto', 'openat2' or 'components'"),
        ({"sandbox_prefix": "workspace"}, "must be an absolute path"),
        ({"sandbox_prefix": ""}, "must not be empty"),
        ({"sandbox_prefix": "/a\0"}, "must not contain a NUL character"),
        ({"sandbox_prefix": "/a/../b"}, "must not contain '.' or '..'"),
        ({"sandbox_prefix": "/./b"}, "must not contain '.' or '..'"),
        ({"unknown": 1}, "not permitted"),
        ({"type": "remote"}, "should be 'local'"),
    ],
)
def test_a_wrong_config_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        LocalConfig.model_validate({"type": "local", "root": "/srv", **wrong})


@pytest.mark.parametrize("prefix", [None, "/", "/workspace", "/a..b/.c/"])
def test_a_prefix_is_any_absolute_path(prefix: str | None) -> None:
    config = LocalConfig(type="local", root="here", sandbox_prefix=prefix)

    assert config.sandbox_prefix == prefix


@pytest.mark.parametrize("resolver", RESOLVERS)
async def test_health_names_the_resolver(place: Place, resolver: str) -> None:
    async with running(place, resolver) as executor:
        health = await executor.probe()

    assert health.ready
    assert {"resolver": resolver} == health.details


async def test_a_missing_root_is_unready_until_it_is_there(place: Place, executor: Local) -> None:
    shutil.rmtree(place.root)
    assert not (await executor.probe()).ready
    assert await outcome(executor, "f") == UNREADABLE_ROOT

    place.file("f")

    assert (await executor.probe()).ready
    assert await content(executor, "f") == b"inside"


async def test_a_root_that_was_replaced_is_the_new_one(place: Place, executor: Local) -> None:
    place.file("f", b"old")
    assert await content(executor, "f") == b"old"
    before = open_files()

    for number in range(3):
        place.root.rename(place.root.with_name(f"old-{number}"))
        place.file("f", b"new %d" % number)
        assert b"new %d" % number == await content(executor, "f")

    assert open_files() == before


async def test_a_root_that_is_a_file_cannot_be_read(place: Place, executor: Local) -> None:
    shutil.rmtree(place.root)
    place.root.write_bytes(b"")

    assert not (await executor.probe()).ready
    assert await outcome(executor, "f") == UNREADABLE_ROOT
    with pytest.raises(Unavailable):
        async with executor.walk("s1", WorkspacePath(), depth=1):
            pass


async def test_a_relative_root_is_taken_from_where_the_gateway_started(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.file("f")
    monkeypatch.chdir(place.root.parent)
    config = LocalConfig(type="local", root="root")
    async with Local.running("local", config) as executor:
        monkeypatch.chdir(Path("/"))

        assert await content(executor, "f") == b"inside"


async def test_no_message_names_a_path_of_the_host(place: Place, executor: Local) -> None:
    place.file("d/f")
    place.link("out", str(place.outside / "f"))
    outcomes = [await outcome(executor, path) for path in ("d", "d/f/x", "x", "out")]
    shutil.rmtree(place.root)
    outcomes.append(await outcome(executor, "d"))

    assert not [text for text in map(str, outcomes) if str(place.root) in text]


async def test_everything_is_given_back_when_it_stops(place: Place) -> None:
    place.file("f")
    before = open_files()
    async with running(place) as executor:
        await content(executor, "f")

    assert open_files() == before


D = WorkspacePath((b"d",))


async def plain(executor: Local, where: WorkspacePath = D) -> tuple[bool, list[Entry]]:
    """Whether the listing was made inline, and what it has."""
    await executor.probe()  # opens the root
    async with executor.walk("s1", where, depth=1) as walk:
        return isinstance(walk, ListedWalk), [entry async for batch in walk for entry in batch]


async def test_a_small_directory_is_listed_without_the_pool_until_it_changes(
    place: Place, executor: Local
) -> None:
    """What was listed a moment ago is in memory; what has changed since may be large or slow."""
    place.file("d/b", b"12345").chmod(0o640)
    place.file("d/\udcff/x")
    os.mkfifo(place.session / "d/a")
    knows_cached = executor._resolver.name == "openat2"

    first = await plain(executor)
    assert [entry.path.raw for entry in first[1]] == [b"d/a", b"d/b", b"d/\xff"]
    assert not first[0]
    assert await plain(executor) == (knows_cached, first[1])

    place.file("d/c")
    changed = await plain(executor)
    assert not changed[0]
    assert len(changed[1]) == 4
    assert await plain(executor) == (knows_cached, changed[1])


async def test_an_empty_directory_is_listed_without_the_pool(place: Place, executor: Local) -> None:
    (place.session / "d").mkdir()

    assert await plain(executor) == (False, [])
    assert await plain(executor) == (executor._resolver.name == "openat2", [])


@pytest.mark.parametrize("count", [FIRST_BATCH + 1, 3 * FIRST_BATCH])
async def test_a_larger_directory_is_always_listed_in_the_pool(
    place: Place, executor: Local, count: int
) -> None:
    for number in range(count):
        place.file(f"d/{number}")

    for _ in range(3):
        inline, entries = await plain(executor)
        assert not inline
        assert len(entries) == count


async def test_a_directory_that_was_large_is_always_listed_in_the_pool(
    place: Place, executor: Local
) -> None:
    """Its blocks are read all the same."""
    for number in range(3000):
        place.file(f"d/{number:0200}")
    for number in range(2999):
        (place.session / f"d/{number:0200}").unlink()
    if os.stat(place.session / "d").st_size < 100_000:
        pytest.skip("a file system whose directories shrink")

    assert [(await plain(executor))[0] for _ in range(3)] == [False] * 3


async def test_a_directory_with_a_link_is_always_listed_in_the_pool(
    place: Place, executor: Local
) -> None:
    """Following a hostile chain of links takes milliseconds."""
    place.file("d/a")
    place.link("d/l", "a")

    assert [(await plain(executor))[0] for _ in range(3)] == [False] * 3


@pytest.mark.parametrize("kind", ["large", "linked", "gone", "a file"])
async def test_another_directory_in_its_place_is_not_read_inline(place: Place, kind: str) -> None:
    """Also not if it was swapped while the pool read, so that its own state was remembered."""
    place.file("d/a")
    async with running(place, "openat2") as executor:
        _, entries = await plain(executor)
        (place.session / "d").rename(place.session / "old")
        if kind == "a file":
            place.file("d")
        elif kind == "linked":
            place.link("d/l", "../old/a")
        elif kind == "large":
            for number in range(FIRST_BATCH + 1):
                place.file(f"d/{number}")

        assert executor._recent.listed("s1", D) is None
        state = executor._recent.state("s1", D)
        assert (state is None) is (kind == "gone")
        if state is not None:
            executor._recent.remember("s1", D, state, entries)
            assert executor._recent.listed("s1", D) is None


async def test_what_is_remembered_is_bounded_and_not_for_ever(place: Place) -> None:
    place.file("d/a")
    now = 1000.0
    async with running(place, "openat2") as executor:
        await plain(executor)
        recent = RecentListings(executor._opener, lambda: now)
        state = recent.state("s1", D)
        assert state is not None
        recent.remember("s1", D, state, [])
        assert recent.listed("s1", D) is not None
        now += 61
        assert recent.listed("s1", D) is None

        for number in range(3000):
            recent.remember(f"s{number}", D, state, [])
        assert len(recent._known) <= 1024
        few = [Entry(D.child(b"a"), Kind.FILE, 1, 1, 0o600)] * FIRST_BATCH
        for number in range(300):
            recent.remember(f"s{number}", D, state, few)
        assert len(recent._known) <= 128


async def test_what_a_remembered_directory_holds_is_looked_at_every_time(place: Place) -> None:
    """Its own time stamps, which tell of new names, say nothing of sizes and modes."""
    paths = [place.file(f"d/{name}", b"1") for name in "abc"]
    async with running(place, "openat2") as executor:
        await plain(executor)
        await asyncio.sleep(1.1)
        (_, before), (_, again) = await plain(executor), await plain(executor)
        paths[1].write_bytes(b"22")
        paths[2].chmod(0o600)
        inline, after = await plain(executor)
        assert again == before
        assert inline
        assert [(entry.size, entry.mode) for entry in after] == [(1, 0o644), (2, 0o644), (1, 0o600)]

        paths[0].unlink()
        paths[0].symlink_to("b")
        assert [entry.is_link for entry in (await plain(executor))[1]] == [True, False, False]


async def test_a_name_that_comes_in_the_tick_of_the_reading_is_not_lost(place: Place) -> None:
    """The directory's state cannot tell: the clock behind its time stamps stood still."""
    place.file("d/0")
    async with running(place, "openat2") as executor:
        await plain(executor)
        for number in range(1, 40):
            await plain(executor)
            place.file(f"d/{number}")
            assert len((await plain(executor))[1]) == number + 1
