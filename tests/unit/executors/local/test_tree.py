"""The walk: everything once, in order, from any point, in bounded memory and descriptors."""

import asyncio
import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.errors import (
    GatewayError,
    NotADirectory,
    NotReadable,
    PathNotFound,
    PathRefused,
    Unavailable,
)
from gateway.domain.model import Entry, Kind
from gateway.domain.paths import WorkspacePath
from gateway.executors.local import levels
from gateway.executors.local.local import Local
from gateway.executors.local.root import Root
from gateway.executors.local.walking import walk_batches
from gateway.system.resolver import Resolver, choose
from tests import needs
from tests.unit.executors.local.rig import (
    RESOLVERS,
    Place,
    listed,
    only_open,
    open_files,
)

ODD_NAMES = [
    b"new\nline",
    b"\xff\xfe",
    b"\x80",
    b"\xc3\xa9",
    b"e\xcc\x81",
    "日本".encode(),
    "\uef80".encode(),
    "\U0001f600".encode(),
    b"-rf",
    b"...",
    b" ",
    b"a.b",
    b"%2e%2e",
    b"back\\slash",
    b"x" * 255,
    b"\x01\x1b[31m",
]


def parts_of(entries: list[Entry]) -> list[tuple[bytes, ...]]:
    return [entry.path.parts for entry in entries]


def by_path(entries: list[Entry]) -> dict[str, Entry]:
    return {entry.path.relative: entry for entry in entries}


def reference(top: bytes, parts: tuple[bytes, ...] = ()) -> list[tuple[bytes, ...]]:
    """Every path below *top*, found in another way and sorted by the definition of the order."""
    found = []
    for directory, directories, files in os.walk(top):
        below = directory[len(top) :].strip(b"/")
        above = tuple(below.split(b"/")) if below else ()
        found += [(*parts, *above, name) for name in directories + files]
    return sorted(found)


@pytest.fixture
def tree(place: Place) -> Place:
    for name in ("b", "a/x", "a/y/1", "a/y/2", "a.b/z", "a-b", "c/d/e/f/g", "c/d.x", "Z"):
        place.file(name)
    (place.session / "empty" / "emptier").mkdir(parents=True)
    for odd in ODD_NAMES:
        path = os.path.join(os.fsencode(place.session), b"odd", odd)
        os.makedirs(path)
        with open(os.path.join(path, odd), "wb"):
            pass
    return place


async def test_everything_comes_once_and_in_order(tree: Place, executor: Local) -> None:
    paths = parts_of(await listed(executor))

    assert paths == reference(os.fsencode(tree.session))


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
async def test_a_walk_goes_as_deep_as_it_is_told(tree: Place, executor: Local, depth: int) -> None:
    expected = [p for p in reference(os.fsencode(tree.session)) if len(p) <= depth]

    assert expected == parts_of(await listed(executor, depth=depth))


@pytest.mark.parametrize("depth", [1, 2, 10])
async def test_a_walk_resumes_behind_every_entry(tree: Place, executor: Local, depth: int) -> None:
    everything = [p for p in reference(os.fsencode(tree.session)) if len(p) <= depth]

    for number, parts in enumerate(everything):
        rest = parts_of(await listed(executor, depth=depth, after=WorkspacePath(parts)))
        assert everything[number + 1 :] == rest


@pytest.mark.parametrize(
    ("path", "after", "expected"),
    [
        ("a", "", ["a/x", "a/y", "a/y/1", "a/y/2"]),
        ("a", "a", ["a/x", "a/y", "a/y/1", "a/y/2"]),
        ("a", "Z", ["a/x", "a/y", "a/y/1", "a/y/2"]),
        ("a", "a/x", ["a/y", "a/y/1", "a/y/2"]),
        ("a", "a/w/gone", ["a/x", "a/y", "a/y/1", "a/y/2"]),
        ("a", "a/x/no/directory", ["a/y", "a/y/1", "a/y/2"]),
        ("a", "a/y/1/x", ["a/y/2"]),
        ("a", "a/y/2", []),
        ("a", "a/z", []),
        ("a", "a.b", []),
        ("a", "zzz", []),
        ("empty/emptier", "", []),
    ],
)
async def test_a_walk_resumes_behind_what_was_never_there(
    tree: Place, executor: Local, path: str, after: str, expected: list[str]
) -> None:
    entries = await listed(executor, path, after=WorkspacePath.parse(after.encode()))

    assert expected == [entry.path.relative for entry in entries]


async def test_each_kind_is_told(place: Place, executor: Local) -> None:
    for path in (place.file("d/file", b"12345"), place.file("d/script", b"")):
        os.utime(path, ns=(0, 1_234_567_890_123_456_789))
    (place.session / "d/script").chmod(0o4755)
    os.mkfifo(place.session / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(place.session / "socket"))
    for name, text in [
        ("to-file", "d/file"),
        ("to-directory", "d"),
        ("to-fifo", "fifo"),
        ("out", "/etc/passwd"),
        ("out-directory", "../s1-secret"),
        ("dangling", "missing"),
        ("loop", "loop"),
        ("below-a-file", "d/file/x"),
    ]:
        place.link(name, text)

    found = by_path(await listed(executor))

    assert {name: (entry.kind, entry.size, entry.is_link) for name, entry in found.items()} == {
        "d": (Kind.DIRECTORY, 0, False),
        "d/file": (Kind.FILE, 5, False),
        "d/script": (Kind.FILE, 0, False),
        "fifo": (Kind.OTHER, 0, False),
        "socket": (Kind.OTHER, 0, False),
        "to-file": (Kind.FILE, 5, True),
        "to-directory": (Kind.DIRECTORY, 0, True),
        "to-fifo": (Kind.OTHER, 0, True),
        "out": (Kind.SYMLINK, 0, True),
        "out-directory": (Kind.SYMLINK, 0, True),
        "dangling": (Kind.SYMLINK, 0, True),
        "loop": (Kind.SYMLINK, 0, True),
        "below-a-file": (Kind.SYMLINK, 0, True),
    }
    assert found["d/file"].mtime_ns == found["to-file"].mtime_ns == 1_234_567_890_123_456_789
    assert found["d/script"].mode == 0o4755
    own = os.lstat(place.session / "out").st_mtime_ns
    assert own == found["out"].mtime_ns
    assert not any(entry.problem for entry in found.values())


async def test_a_linked_directory_is_entered_only_when_it_is_asked_for(
    tree: Place, executor: Local
) -> None:
    tree.link("l", "c")
    tree.link("c/up", "..")

    assert not [p for p in parts_of(await listed(executor)) if p[0] == b"l" and len(p) > 1]
    assert reference(os.fsencode(tree.session / "c"), (b"l",)) == parts_of(
        await listed(executor, "l")
    )


@pytest.mark.parametrize(
    ("path", "verdict"),
    [
        ("b", NotADirectory),
        ("b/x", NotADirectory),
        ("missing", PathNotFound),
        ("a/missing/x", PathNotFound),
        ("out", PathRefused),
        ("out/f", PathRefused),
        ("loop", PathRefused),
        ("fifo", NotReadable),
    ],
)
async def test_entering_says_what_is_wrong(
    tree: Place, executor: Local, path: str, verdict: type[GatewayError]
) -> None:
    tree.link("out", "../s1-secret")
    tree.link("loop", "loop")
    os.mkfifo(tree.session / "fifo")
    await executor.probe()
    before = open_files()

    with pytest.raises(verdict):
        await listed(executor, path)
    assert open_files() == before


class Only:
    """Excludes what *excluded* says, and lists what *wanted* says."""

    def __init__(
        self, excluded: Callable[[str, bool], bool], wanted: Callable[[str, bool], bool]
    ) -> None:
        self._excluded = excluded
        self._wanted = wanted

    def excludes(self, path: WorkspacePath, is_directory: bool) -> bool:
        return self._excluded(path.relative, is_directory)

    def lists(self, path: WorkspacePath, is_directory: bool) -> bool:
        return self._wanted(path.relative, is_directory)


async def test_what_is_excluded_is_neither_yielded_nor_entered(
    place: Place, executor: Local
) -> None:
    for name in ("a/x", "a/y", "node_modules/z/w", "b"):
        place.file(name)
    place.link("l", "node_modules")
    selection = Only(
        lambda path, is_directory: (
            path in ("node_modules", "l", "a/y") and is_directory != ("/" in path)
        ),
        lambda path, is_directory: True,
    )

    assert list(by_path(await listed(executor, selection=selection))) == ["a", "a/x", "b"]
    after = WorkspacePath((b"node_modules", b"a"))
    assert await listed(executor, selection=selection, after=after) == []


async def test_what_is_not_listed_is_entered_all_the_same(tree: Place, executor: Local) -> None:
    selection = Only(lambda *_: False, lambda path, is_directory: path.endswith("/g"))

    assert list(by_path(await listed(executor, selection=selection))) == ["c/d/e/f/g"]


async def test_a_walk_that_selects_nothing_is_empty(tree: Place, executor: Local) -> None:
    for number in range(1500):
        tree.file(f"many/{number}")

    assert await listed(executor, selection=Only(lambda *_: False, lambda *_: False)) == []


async def test_the_consumer_own_error_passes_and_frees_everything(
    tree: Place, executor: Local
) -> None:
    await executor.probe()
    before = open_files()

    def fail(path: str, is_directory: bool) -> bool:
        if path == "c/d":
            raise LookupError
        return False

    with pytest.raises(LookupError):
        await listed(executor, selection=Only(fail, lambda *_: True))
    await asyncio.sleep(0.01)
    assert open_files() == before


def make_deep(place: Place, levels_down: int) -> None:
    above = os.open(place.session, os.O_PATH)
    for number in range(levels_down):
        name = b"level-%04d" % number
        os.mkdir(name, dir_fd=above)
        for sibling in (b"a-before", b"z-behind"):
            os.close(os.open(sibling, os.O_CREAT, dir_fd=above))
        fd = os.open(name, os.O_PATH, dir_fd=above)
        os.close(above)
        above = fd
    os.close(above)


async def test_six_hundred_levels_are_all_there_with_few_files_open(
    place: Place, executor: Local
) -> None:
    """os.walk ends silently at 195 levels of these names: PATH_MAX."""
    make_deep(place, 600)
    await executor.probe()
    before, most = open_files(), 0
    entries: list[Entry] = []
    async with executor.walk("s1", WorkspacePath(), depth=10_000) as walk:
        async for batch in walk:
            entries += batch
            most = max(most, len(os.listdir("/proc/self/fd")))

    assert len(entries) == 1800
    assert max(len(entry.path.parts) for entry in entries) == 600
    assert parts_of(entries) == sorted(parts_of(entries))
    # the open levels, the start, the session, a scan, a way back up: its two ends
    assert most <= before + levels.MOST_OPEN + 6
    resumed = await listed(executor, after=entries[1000].path)
    assert entries[1001:] == resumed
    shutil.rmtree(place.session / "level-0000", ignore_errors=True)


@pytest.mark.parametrize("resolver", RESOLVERS)
def test_a_directory_that_vanishes_is_the_end_of_that_directory(
    place: Place, resolver: str
) -> None:
    """Also one that the walk will come back to, and one that was replaced by another."""
    for top in ("a", "b", "c"):
        deep = "/".join("x" * 12)
        for number in range(300):
            place.file(f"{top}/{deep}/f{number:03}")
        place.file(f"{top}/z-behind")
    root = Root(str(place.root))
    batches = walk_batches(
        choose(resolver, None),
        lambda: root.open_session("s1"),
        WorkspacePath(),
        depth=100,
        after=None,
        selection=None,
    )

    entries = [*next(batches)]
    (place.session / "a").rename(place.outside / "a")
    place.file("a/z-other")
    shutil.rmtree(place.session / "b")
    for batch in batches:
        entries += batch

    found = parts_of(entries)
    assert found == sorted(found)
    assert (b"a", b"z-other") not in found
    assert (b"a", b"z-behind") not in found
    assert not [parts for parts in found if parts[0] == b"b"]
    assert (b"c", b"z-behind") in found


def scanned(directory: int, last: bytes) -> tuple[list[bytes], bool]:
    scan = levels.names_behind(directory, last)
    while True:
        try:
            next(scan)
        except StopIteration as done:
            return done.value


def test_seventy_thousand_names_come_in_order_and_in_slices(place: Place) -> None:
    wide = place.session / "wide"
    wide.mkdir()
    fd = os.open(wide, os.O_RDONLY)
    for number in range(70_000):
        os.mknod(b"n%x" % (number * 2_654_435_761 % 2**32), dir_fd=fd)
    names: list[bytes] = []
    sizes = []
    is_cut = True
    while is_cut:
        more, is_cut = scanned(fd, names[-1] if names else b"")
        sizes.append(len(more))
        names += more
    os.close(fd)
    assert sizes == [32_768, 32_768, 70_000 - 2 * 32_768]
    assert sorted(os.listdir(os.fsencode(wide))) == names

    root = Root(str(place.root))
    walked = [
        entry.path.parts[-1]
        for batch in walk_batches(
            choose("auto", None),
            lambda: root.open_session("s1"),
            WorkspacePath((b"wide",)),
            depth=5,
            after=None,
            selection=None,
        )
        for entry in batch
    ]
    assert walked == names


@pytest.mark.parametrize("batches", [0, 1, 2, 5])
async def test_leaving_a_walk_closes_what_it_has_open(
    tree: Place, executor: Local, batches: int
) -> None:
    for number in range(1500):
        tree.file(f"many/{number}/f")
    await listed(executor)  # with it the walk helper starts, and stays
    before = open_files()

    async with executor.walk("s1", WorkspacePath(), depth=9) as walk:
        seen = 0
        async for _ in walk:
            if seen == batches:
                break
            seen += 1

    await only_open(before)


async def test_a_cancelled_walk_closes_what_it_has_open(tree: Place, executor: Local) -> None:
    for number in range(1000):
        tree.file(f"many/{number}/f")
    await listed(executor)  # with it the walk helper starts, and stays
    before = open_files()
    for number in range(50):
        task = asyncio.create_task(listed(executor))
        await asyncio.sleep(number % 10 / 1000)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    await only_open(before)


async def test_two_walks_at_once_do_not_mix(tree: Place, executor: Local) -> None:
    walks = await asyncio.gather(*(listed(executor) for _ in range(8)))

    assert all(walk == walks[0] for walk in walks)


def batches_of(place: Place, resolver: Resolver | None = None, **more: Any) -> Generator[Any]:
    root = Root(str(place.root))
    wanted = {"depth": 100, "after": None, "selection": None, **more}
    return walk_batches(
        resolver or choose("auto", None),
        lambda: root.open_session("s1"),
        WorkspacePath(),
        **wanted,
    )


def times(batches: Generator[list[Entry]], most: int = 10_000) -> Iterator[tuple[float, int]]:
    """How long each step took, and how many entries it gave."""
    began = time.perf_counter()
    for batch in islice(batches, most):
        yield time.perf_counter() - began, len(batch)
        began = time.perf_counter()


def test_many_deep_directories_beside_many_files_take_no_long_steps(place: Place) -> None:
    """Coming back up must not mean to scan the wide directory again."""
    for number in range(300):
        (place.session / f"a{number:03}" / "d/d/d/d/d/d/d/d/d").mkdir(parents=True)
    fd = os.open(place.session, os.O_RDONLY)
    for number in range(60_000):
        os.mknod(b"z%d" % number, dir_fd=fd)
    os.close(fd)
    began = time.process_time()

    steps = list(times(batches_of(place)))

    assert sum(count for _, count in steps) == 63_000
    assert max(took for took, _ in steps) < 0.5
    assert time.process_time() - began < 5


def test_a_step_ends_in_time_when_a_selection_is_slow(place: Place) -> None:
    for number in range(100):
        place.file(f"f{number}")
    calls = 0

    def slow(path: str, is_directory: bool) -> bool:
        nonlocal calls
        calls += 1
        time.sleep(0.01)
        return True

    counts = [0, *(calls for _ in batches_of(place, selection=Only(slow, lambda *_: True))), calls]

    assert calls == 100
    assert max(after - before for before, after in pairwise(counts)) <= 6  # of 0.05 s at most


def test_a_step_ends_in_time_on_the_way_to_the_cursor(place: Place) -> None:
    deep = "/".join("x" * 100)
    place.file(f"{deep}/a")
    place.file(f"{deep}/b")

    def slow(path: str, is_directory: bool) -> bool:
        time.sleep(0.005)
        return False

    after = WorkspacePath.parse(f"{deep}/a".encode())
    batches = batches_of(place, depth=200, after=after, selection=Only(slow, lambda *_: True))

    first = next(batches)
    assert not first
    assert [entry.path.name for batch in batches for entry in batch] == ["b"]


def test_names_are_forgotten_when_there_are_too_many(place: Place) -> None:
    """Three directories with more names together than are held at a time, and a deep one."""
    for path in ("", "m/", "m/m/"):
        below = place.session / path
        below.mkdir(exist_ok=True)
        for number in range(13_000):
            (below / f"a{number}").touch()
            (below / f"z{number}").touch()
    place.file("m/m/m/m/m/m/m/m/m/m/m/m/f")

    entries = [entry for batch in batches_of(place) for entry in batch]

    assert parts_of(entries) == reference(os.fsencode(place.session))


class Failing:
    """A resolver that cannot."""

    name = "failing"

    def __init__(self, code: int) -> None:
        self._real = choose("auto", None)
        self._code = code
        self.resolve = self._real.resolve

    def follow(self, root: int, parts: Sequence[bytes]) -> int:
        raise OSError(self._code, os.strerror(self._code))

    def enter(self, directory: int, name: bytes) -> int:
        raise OSError(self._code, os.strerror(self._code))


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EIO, errno.ESTALE, errno.ENOMEM])
@pytest.mark.parametrize("name", ["directory", "link"])
def test_a_failure_that_says_nothing_of_an_entry_ends_the_walk(
    place: Place, code: int, name: str
) -> None:
    place.file("file")
    if name == "link":
        place.link("link", "file")
    else:
        (place.session / "directory").mkdir()
    before = open_files()

    with pytest.raises(Unavailable):
        list(batches_of(place, Failing(code)))
    if name == "directory":
        with pytest.raises(Unavailable):
            list(batches_of(place, Failing(code), after=WorkspacePath((b"directory", b"x"))))
    assert open_files() == before


@pytest.mark.parametrize(
    ("code", "found"),
    [
        (errno.EACCES, [("directory", Kind.DIRECTORY), ("link", Kind.SYMLINK)]),
        (errno.EPERM, [("directory", Kind.DIRECTORY), ("link", Kind.SYMLINK)]),
        (errno.EXDEV, [("directory", Kind.DIRECTORY), ("link", Kind.SYMLINK)]),
        (errno.ENOENT, [("link", Kind.SYMLINK)]),
        (errno.ENOTDIR, [("link", Kind.SYMLINK)]),
        (errno.ELOOP, [("link", Kind.SYMLINK)]),
    ],
)
def test_a_failure_that_says_something_of_an_entry_is_told_with_it(
    place: Place, code: int, found: list[tuple[str, Kind]]
) -> None:
    (place.session / "directory").mkdir()
    place.link("link", "directory")

    entries = [entry for batch in batches_of(place, Failing(code)) for entry in batch]

    assert found == [(entry.path.name, entry.kind) for entry in entries]
    assert all(entry.problem for entry in entries if entry.kind is Kind.DIRECTORY)


AS_NOBODY = """
import asyncio, json, os, sys
from gateway.domain.paths import WorkspacePath
from gateway.executors.local.local import Local, LocalConfig
from tests.unit.executors.local.rig import listed, outcome

os.setgroups([]); os.setgid(65534); os.setuid(65534)

async def main():
    config = LocalConfig(type="local", root=sys.argv[1], resolver=sys.argv[2])
    async with Local.running("local", config) as executor:
        outcomes = {p: str(await outcome(executor, p)) for p in sys.argv[3].split()}
        entries = await listed(executor)
    print(json.dumps([outcomes, {e.path.relative: [e.kind.value, e.problem] for e in entries}]))

asyncio.run(main())
"""


@pytest.mark.parametrize("resolver", RESOLVERS)
def test_what_may_not_be_read_is_named_and_not_the_end(place: Place, resolver: str) -> None:
    needs.root()
    place.file("closed/f")
    place.file("listable/f")
    place.file("private")
    place.file("z-open")
    place.link("to-closed", "closed/f")
    (place.session / "closed").chmod(0)
    (place.session / "listable").chmod(0o744)
    (place.session / "private").chmod(0)
    # pytest's own directories are closed to others.
    for above in (place.root, *place.root.parents):
        if os.stat(above).st_mode & 0o005 != 0o005:
            above.chmod(0o755)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            AS_NOBODY,
            place.root,
            resolver,
            "closed/f private z-open to-closed",
        ],
        cwd=Path(__file__).parents[4],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    outcomes, entries = json.loads(done.stdout.splitlines()[-1])

    assert "inside" in outcomes.pop("z-open")
    assert all("NotReadable" in text for text in outcomes.values()), outcomes
    assert entries == {
        "closed": ["directory", "not readable"],
        "listable": ["directory", None],
        "listable/f": ["unknown", "not readable"],
        "private": ["file", None],
        "to-closed": ["symlink", None],
        "z-open": ["file", None],
    }
