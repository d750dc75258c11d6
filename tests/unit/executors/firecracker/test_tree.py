"""Trees: one batch in one machine for each page of them, in the order of paths."""

import os
import stat
from pathlib import Path

import pytest

from gateway.domain.errors import PathRefused, ProtocolFault, StreamBroken
from gateway.domain.model import Entry, Kind
from gateway.domain.paths import WorkspacePath
from gateway.executors.firecracker.pages import MOST_ENTRIES
from gateway.service.selection import Selector
from tests.gateways import plant
from tests.unit.executors.firecracker.rig import at, entries, names

EXECUTE = "/execute"


def fill(directory: Path, count: int) -> None:
    """Make *directory* with so many empty files."""
    directory.mkdir()
    here = os.open(directory, os.O_RDONLY)
    for number in range(count):
        os.mknod(f"{number}", 0o644 | stat.S_IFREG, dir_fd=here)
    os.close(here)


async def test_a_tree_takes_one_call(executor, sessions, shannon):
    plant(sessions / "s1", {f"d{n}/e/f": b"xy" for n in range(30)})

    found = await entries(executor, depth=9)

    assert len(found) == 1 + 3 * 30
    assert shannon.calls == [EXECUTE]


async def test_entries_come_in_order_with_size_time_and_mode(executor, sessions):
    plant(sessions / "s1", {"b/c": b"xyz", "b/.d/e": b"", "b-": b"1"})
    os.utime(sessions / "s1" / "b/c", ns=(0, 1_234_567_890_123_456_789))
    (sessions / "s1" / "b/c").chmod(0o640)

    found = await entries(executor, depth=9)

    paths = [entry.path for entry in found]
    assert paths == sorted(paths)
    assert [path.relative for path in paths] == ["a.txt", "b", "b/.d", "b/.d/e", "b/c", "b-"]
    assert found[4] == Entry(at("b/c"), Kind.FILE, 3, 1_234_567_890_123_456_789, 0o640)
    assert found[1].kind is Kind.DIRECTORY


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
async def test_no_deeper_than_was_asked_for(executor, sessions, depth):
    plant(sessions / "s1", {"1/2/3/4/5": b""})

    found = await entries(executor, "1", depth=depth)

    assert [len(entry.path.parts) - 1 for entry in found] == list(range(1, depth + 1))


@pytest.mark.parametrize("after", ["a.txt", "b", "b/c", "b/c/zz", "b/x", "c", "bb", "zz"])
async def test_a_walk_goes_on_behind_any_path(executor, sessions, after):
    plant(sessions / "s1", {"b/c/d": b"", "b/c/e": b"", "b/f": b"", "c/g": b""})
    everything = await entries(executor, depth=9)

    found = await entries(executor, depth=9, after=at(after))

    assert found == [entry for entry in everything if entry.path > at(after)]


async def test_a_walk_of_a_directory_goes_on_behind_a_path(executor, sessions):
    plant(sessions / "s1", {"b/c/d": b"", "b/c/e": b"", "b/f": b""})

    assert await names(executor, "b", depth=9, after=at("b/c/d")) == ["b/c/e", "b/f"]


async def test_links_are_what_they_lead_to_and_never_entered(executor, sessions):
    links = {
        "dir/x": b"12",
        "file": "dir/x",
        "link": "dir",
        "out": "/etc",
        "up": "../s2",
        "me": ".",
    }
    plant(sessions / "s1", links)
    plant(sessions / "s2", {"secret": b""})

    found = {entry.path.relative: entry for entry in await entries(executor, depth=9)}

    assert list(found) == ["a.txt", "dir", "dir/x", "file", "link", "me"]
    assert (found["file"].kind, found["file"].size) == (Kind.FILE, 2)
    assert found["link"].kind is Kind.DIRECTORY


async def test_a_link_on_the_way_that_leaves_is_refused(executor, sessions):
    plant(sessions / "s1", {"out": "..", "in": "dir", "dir/x": b""})

    with pytest.raises(PathRefused):
        await names(executor, "out", depth=9)
    assert await names(executor, "in", depth=9) == ["in/x"]


async def test_names_are_any_bytes(executor, sessions):
    odd = [b"not-\xff-utf8", b"line\nbreak", b". end", b"a..b", b"tab\t", b"\\", b"\xee\xbe\x80"]
    plant(sessions / "s1", {b"d/" + name: b"" for name in odd})

    for depth in (1, 2):
        found = await entries(executor, "d", depth=depth)
        assert [entry.path.parts[1] for entry in found] == sorted(odd)


async def test_what_is_no_file_is_listed_as_such(executor, sessions):
    os.mkfifo(sessions / "s1" / "pipe")

    assert [e.kind for e in await entries(executor, depth=9)] == [Kind.FILE, Kind.OTHER]


async def test_a_tree_deeper_than_paths_can_be_says_where_it_is_not_entered(executor, sessions):
    here = os.open(sessions / "s1", os.O_PATH)
    for _ in range(60):
        os.mkdir("d" * 100, dir_fd=here)
        below = os.open("d" * 100, os.O_PATH, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)

    found = await entries(executor, depth=256)

    assert [entry.problem for entry in found if entry.problem] == ["not readable"]
    assert found[-1].problem == "not readable"
    assert len(found) > 30


async def test_a_large_tree_comes_in_pages_one_after_the_other(executor, sessions, shannon):
    more = MOST_ENTRIES // 7 * 7 + 700
    for number in range(7):
        fill(sessions / "s1" / f"d{number}", more // 7)

    found = await entries(executor, depth=9)

    paths = [entry.path for entry in found]
    assert len(paths) == more + 7 + 1
    assert paths == sorted(paths)
    assert shannon.calls == [EXECUTE] * len(shannon.calls)
    assert 2 <= len(shannon.calls) <= 4
    assert shannon.at_once == {"s1": 1}


async def test_what_is_excluded_costs_no_further_pages(executor, sessions, shannon):
    fill(sessions / "s1" / "node_modules", 2 * MOST_ENTRIES)
    plant(sessions / "s1", {"z": b""})
    selection = Selector.parse(None, ["node_modules/"])

    assert await names(executor, depth=9, selection=selection) == ["a.txt", "z"]
    assert len(shannon.calls) == 2


async def test_an_output_that_was_cut_is_a_fault(executor, sessions, shannon):
    plant(sessions / "s1", {f"d/{n}": b"" for n in range(50)})
    shannon.most_output = 500

    with pytest.raises(ProtocolFault):
        await names(executor, depth=9)


async def test_a_directory_that_goes_between_two_pages_breaks_the_walk(executor, sessions):
    fill(sessions / "s1" / "d", MOST_ENTRIES + 1)

    async with executor.walk("s1", at("d"), depth=2) as walk:
        batches = aiter(walk)
        await anext(batches)
        os.rename(sessions / "s1" / "d", sessions / "s1" / "gone")
        with pytest.raises(StreamBroken):
            [batch async for batch in batches]


def test_paths_order_as_the_tests_say():
    assert WorkspacePath((b"b", b"c")) < WorkspacePath((b"b-",))
