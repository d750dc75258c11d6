"""What a workspace's own `.gitignore` files leave, in memory."""

import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from gateway.domain.archives import ArchiveBounds, Format, Packing
from gateway.domain.errors import BadParameter, PathNotFound, TooLarge
from gateway.domain.model import Entry
from gateway.domain.paths import WorkspacePath
from gateway.executors.streams import EVERYTHING, FileStream, Selection, Walk, Wanted
from gateway.service import gitignore
from gateway.service.gitignore import own_ignores
from gateway.service.patterns import Extent
from tests.doubles.memory import Memory, Workspace

BOUNDS = ArchiveBounds(entries=100_000, bytes=1 << 30, file=1 << 30, depth=64)


class Watched(Workspace):
    """Remembers which directories were listed."""

    def __init__(self) -> None:
        super().__init__()
        self.listed: list[str] = []

    def children(self, path: WorkspacePath) -> Iterator[Entry]:
        self.listed.append(path.rooted)
        return super().children(path)


class OneAtATime(Memory):
    """Bears one call at a time, and counts them."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[str] = []
        self._open = 0

    @asynccontextmanager
    async def open(
        self, workspace: str, path: WorkspacePath, wanted: Wanted = EVERYTHING
    ) -> AsyncIterator[FileStream]:
        with self._counted(f"open {path.rooted}"):
            async with super().open(workspace, path, wanted) as stream:
                yield stream

    @asynccontextmanager
    async def walk(
        self,
        workspace: str,
        path: WorkspacePath,
        *,
        depth: int,
        after: WorkspacePath | None = None,
        selection: Selection | None = None,
    ) -> AsyncIterator[Walk]:
        with self._counted(f"walk {path.rooted}"):
            async with super().walk(
                workspace, path, depth=depth, after=after, selection=selection
            ) as walk:
                yield walk

    def _counted(self, call: str) -> "OneAtATime":
        self.calls.append(call)
        return self

    def __enter__(self) -> None:
        assert not self._open
        self._open += 1

    def __exit__(self, *_: object) -> None:
        self._open -= 1


def packing(*paths: str, exclude: tuple[str, ...] = ()) -> Packing:
    places = tuple(WorkspacePath.parse(path.encode()) for path in paths)
    return Packing(Format.ZIP, places or (WorkspacePath.ROOT,), exclude, gitignore=True)


def executor_of(files: dict[str, str | bytes]) -> OneAtATime:
    executor = OneAtATime("memory")
    workspace = executor.workspaces["s1"] = Watched()
    for path, content in files.items():
        text = content.encode() if isinstance(content, str) else content
        workspace.write(path.encode(), text)
    return executor


async def left(executor: Memory, wanted: Packing, bounds: ArchiveBounds = BOUNDS) -> list[str]:
    """What is left, in order; directories too."""
    selection = await own_ignores(executor, "s1", wanted, bounds)
    found = []
    for path in wanted.paths:
        async with executor.walk("s1", path, depth=64, selection=selection) as walk:
            found += [entry.path.relative async for batch in walk for entry in batch]
    return found


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a": "", "b": ""}, "a b"),
        ({".gitignore": "b", "a": "", "b": ""}, ".gitignore a"),
        ({".gitignore": "*.log", "d/x.log": "", "d/y": ""}, ".gitignore d d/y"),
        ({"d/.gitignore": "/x", "d/x": "", "d/e/x": "", "x": ""}, "d d/.gitignore d/e d/e/x x"),
        ({"d/.gitignore": "x/", "d/e/x/y": "", "x/y": ""}, "d d/.gitignore d/e x x/y"),
        (
            {".gitignore": "*.log", "d/.gitignore": "!a.log", "d/a.log": "", "d/b.log": ""},
            ".gitignore d d/.gitignore d/a.log",
        ),
        (
            {".gitignore": "!a", "d/.gitignore": "a", "d/a": "", "a": ""},
            ".gitignore a d d/.gitignore",
        ),
        ({".gitignore": "d/", "d/.gitignore": "!a", "d/a": ""}, ".gitignore"),
        ({".gitignore": "/d/*", "d/.gitignore": "!a", "d/a": "", "d/b": ""}, ".gitignore d d/a"),
        ({".gitignore": ".gitignore\n", "d/.gitignore": "a", "d/a": "", "d/b": ""}, "d d/b"),
        ({"d/.gitignore": "*", "d/a": "", "d/e/b": ""}, "d"),
        ({".git/config": "", ".git/HEAD": "", "d/.git": "gitdir: x", "d/a": ""}, "d d/a"),
        ({".gitignore": "!.git", ".git/config": ""}, ".gitignore"),
        ({".gitignore": b"\xef\xbb\xbfa\r\nb\r\n", "a": "", "b": "", "c": ""}, ".gitignore c"),
        ({".gitignore": b"\xff\nb\0c\n[x\na", "a": "", "b": "", "c": ""}, ".gitignore c"),
        ({".gitignore": "caf??", "café": "", "caffe": ""}, ".gitignore"),
        ({".gitignore/a": "", "b": ""}, ".gitignore .gitignore/a b"),
        (
            {"d/.gitignore": ".c/", "d/.c/.gitignore": "!a", "d/.c/a": "", "d/b": ""},
            "d d/.gitignore d/b",
        ),
        ({"d[1]/.gitignore": "x", "d[1]/x": "", "d1/x": ""}, "d1 d1/x d[1] d[1]/.gitignore"),
    ],
)
async def test_what_is_left_is_what_git_shows(files, expected):
    assert await left(executor_of(files), packing()) == expected.split()


@pytest.mark.parametrize(
    ("exclude", "expected"),
    [
        ((), ".gitignore a d d/.gitignore"),
        (("a",), ".gitignore d d/.gitignore"),
        (("!x.log",), ".gitignore a d d/.gitignore d/x.log"),
        (("!/m/",), ".gitignore a d d/.gitignore m m/n"),
        (("!n",), ".gitignore a d d/.gitignore"),
        ((".gitignore",), "a d"),
        (("!.git",), ".git .git/HEAD .gitignore a d d/.gitignore"),
        (("a", "!a", "# no"), ".gitignore a d d/.gitignore"),
    ],
)
async def test_what_the_request_says_comes_last(exclude, expected):
    executor = executor_of(
        {
            ".gitignore": "m/\n*.log",
            "a": "",
            "d/.gitignore": "x.*",
            "d/x.log": "",
            "m/n": "",
            ".git/HEAD": "",
        }
    )

    assert await left(executor, packing(exclude=exclude)) == expected.split()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/b", "a/b/.gitignore a/b/c a/b/c/4"),
        ("a", "a/.gitignore a/4 a/b a/b/.gitignore a/b/c a/b/c/4"),
        ("m", ""),
        ("m/n", ""),
    ],
)
async def test_the_files_above_a_packed_directory_count(path, expected):
    executor = executor_of(
        {
            ".gitignore": "1\nm",
            "a/.gitignore": "2",
            "a/b/.gitignore": "3",
            **{f"{place}/{n}": "" for place in ("a/b/c", "m/n") for n in range(1, 5)},
            "a/4": "",
        }
    )

    assert await left(executor, packing(path)) == expected.split()


async def test_several_packed_directories_have_their_own_files():
    executor = executor_of(
        {"a/.gitignore": "x", "a/x": "", "b/.gitignore": "y", "b/x": "", "b/y": "", "c/y": ""}
    )

    assert await left(executor, packing("a", "b")) == ["a/.gitignore", "b/.gitignore", "b/x"]
    assert sum(call == "walk /" for call in executor.calls) == 1


async def test_a_link_is_no_source_of_patterns_wherever_it_leads():
    """As in git; one that leaves could tell whether a line is in a file of the host."""
    executor = executor_of({"real": "a\n", "a": "", "d/a": "", "e/a": ""})
    executor.workspaces["s1"].link(b".gitignore", b"real")
    executor.workspaces["s1"].link(b"d/.gitignore", b"../../outside")
    executor.workspaces["s1"].link(b"e/.gitignore", b"nowhere")

    everything = ".gitignore a d d/.gitignore d/a e e/.gitignore e/a real"
    assert await left(executor, packing()) == everything.split()


async def test_a_packed_directory_may_be_reached_by_a_link():
    executor = executor_of({"real/.gitignore": "x", "real/x": "", "real/y": ""})
    executor.workspaces["s1"].link(b"link", b"real")

    assert await left(executor, packing("link")) == ["link/.gitignore", "link/y"]


async def test_what_is_ignored_is_not_looked_through():
    executor = executor_of(
        {
            ".gitignore": "node_modules",
            ".cache/a/b": "",
            "node_modules/a/.gitignore": "x",
            **{f"p{n}/.gitignore": "dist/" for n in range(3)},
            **{f"p{n}/dist/a/b": "" for n in range(3)},
            "p2/node_modules/.gitignore": "y",
        }
    )

    await own_ignores(executor, "s1", packing(), BOUNDS)

    listed = set(executor.workspaces["s1"].listed)
    assert listed == {"/", "/.cache", "/.cache/a", "/p0", "/p1", "/p2"}
    assert not [call for call in executor.calls if "node_modules" in call]


async def test_many_files_take_few_walks():
    files = {f"p{n:03}/{name}": "x" for n in range(200) for name in (".gitignore", "x", "y")}
    executor = executor_of(files)

    assert len(await left(executor, packing())) == 600
    assert sum(call.startswith("open") for call in executor.calls) == 200
    assert sum(call.startswith("walk") for call in executor.calls) < 30


async def test_a_directory_that_is_missing_is_told():
    with pytest.raises(PathNotFound):
        await own_ignores(executor_of({"a": ""}), "s1", packing("b/c"), BOUNDS)


async def test_patterns_of_the_request_are_judged_as_ever():
    with pytest.raises(BadParameter, match=r"^exclude: '\[' is not"):
        await own_ignores(executor_of({"a": ""}), "s1", packing(exclude=("[",)), BOUNDS)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a/.gitignore": "#" * 65_537}, "'/a/.gitignore' is larger than 65536 bytes"),
        (
            {f"{n:03}/.gitignore": "" for n in range(257)},
            "'/256/.gitignore' is one file more than 256",
        ),
        (
            {".gitignore": "a\n" * 600, "a b/.gitignore": "b\n" * 401},
            "up to '/a b/.gitignore', there are more than 1000 patterns",
        ),
        (
            {".gitignore": "*" * 3 + "?" * 511, "a/.gitignore": "*"},
            "up to '/a/.gitignore', there are more than 512 of '*', '?' and '['",
        ),
        ({".gitignore": "a" * 16_385}, "there are more than 16384 bytes of patterns"),
        (
            {f"{n}/.gitignore": "a\n" * 1000 for n in range(5)},
            "up to '/4/.gitignore', there are more than 4000 patterns",
        ),
    ],
)
async def test_more_than_can_be_heeded_is_refused(files, message):
    with pytest.raises(TooLarge, match=f"^gitignore: .*{re.escape(message)}$"):
        await own_ignores(executor_of(files), "s1", packing(), BOUNDS)


async def test_a_file_in_an_excluded_directory_is_not_read():
    executor = executor_of({"b/.gitignore": "#" * 70_000, "c": ""})

    assert await left(executor, packing(exclude=("b",))) == ["c"]


async def test_comments_and_lines_that_git_does_not_understand_do_no_harm():
    executor = executor_of({".gitignore": "# \u2026\n" * 9000 + "[[:nope:]]\na\\\n!\nb\n", "b": ""})

    assert await left(executor, packing()) == [".gitignore"]


async def test_no_more_is_looked_through_than_may_be_packed():
    executor = executor_of({"a": "", "b": "", "c": "", "d/e": ""})

    assert len(await left(executor, packing(), ArchiveBounds(5, 1, 1, 9))) == 5
    with pytest.raises(TooLarge, match=r"more than 4 entries to look through, '/d/e' among them"):
        await own_ignores(executor, "s1", packing(), ArchiveBounds(4, 1, 1, 9))


NAME = "ab" * 127


@pytest.mark.parametrize(
    "line",
    [
        "a" * 16_384,
        "*" + "?" * 511,
        "*a" * 512,
        "**/" * 512 + "a",
        "[!a-cx]" * 512,
        "[" + "".join(chr(33 + 2 * n) for n in range(29)) + "]" * 2,
        "\n".join(f"{n:03}{'x' * 12}" for n in range(1000)),
        "\n".join(f"*{chr(97 + n % 26) * 7}{n}" for n in range(512)),
        "\n".join("*" + "ab"[n % 2] + "?" * (12 + n % 8) + "c" for n in range(28)),
    ],
)
async def test_all_that_is_within_the_bounds_is_matched_in_bounded_time_and_memory(line):
    executor = executor_of({".gitignore": line, "d/e": ""})
    selection = await own_ignores(executor, "s1", packing(), BOUNDS)

    started = time.process_time()
    for n in range(20):
        selection.excludes(WorkspacePath((f"{n}{NAME}"[:255].encode(),)), is_directory=False)

    assert time.process_time() - started < 1


def test_what_counts_on_one_way_is_within_what_counts_in_all():
    assert gitignore.MOST_ON_A_WAY.excess(gitignore.MOST) is None
    assert Extent.of(["a*?", "[b]"]).plus(Extent.of(["é"])) == Extent(3, 8, 3)
