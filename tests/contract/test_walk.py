"""A walk lists what is there, in one order, from anywhere, and only what was selected."""

import time
from collections.abc import Callable

import pytest

from gateway.domain.errors import WorkspaceGone
from gateway.domain.model import Kind
from gateway.domain.paths import WorkspacePath
from tests.contract.asking import EVERY_LEVEL, at, listed
from tests.rigs import Rig

FILES = {
    "a/b/c/d.txt": b"1234",
    "a/b.txt": b"",
    "a/b-x/f": b"1",
    "a-": b"12",
    "a.txt": b"123",
    "a b/f.txt": b"12345",
    "empty": None,
    "z/y/x/w/v": b"deep",
    "Z": b"",
    "ä/ö.txt": b"1",
}
KINDS = {at(name): Kind.FILE for name, content in FILES.items() if content is not None} | {
    WorkspacePath(at(name).parts[:depth]): Kind.DIRECTORY
    for name, content in FILES.items()
    for depth in range(1, len(at(name).parts) + (content is None))
}
SIZES = {at(name): len(content) for name, content in FILES.items() if content is not None}


Test = Callable[[WorkspacePath], bool]


class Chosen:
    """A selection by two functions."""

    def __init__(self, excluded: Test, listed: Test) -> None:
        self.excluded = excluded
        self.listed = listed

    def excludes(self, path: WorkspacePath, is_directory: bool) -> bool:
        return self.excluded(path)

    def lists(self, path: WorkspacePath, is_directory: bool) -> bool:
        return self.listed(path)

    def chosen(self, paths: list[WorkspacePath]) -> list[WorkspacePath]:
        """Those of *paths* that a walk should list."""
        return [
            path
            for path in paths
            if self.listed(path)
            and not any(
                self.excluded(WorkspacePath(path.parts[:depth]))
                for depth in range(1, len(path.parts) + 1)
            )
        ]


class Checking(Chosen):
    """It is asked as the contract says."""

    def excludes(self, path: WorkspacePath, is_directory: bool) -> bool:
        assert is_directory is (KINDS[path] is Kind.DIRECTORY)
        return super().excludes(path, is_directory)

    def lists(self, path: WorkspacePath, is_directory: bool) -> bool:
        assert is_directory is (KINDS[path] is Kind.DIRECTORY)
        assert not self.excluded(path)
        return super().lists(path, is_directory)


def below(base: WorkspacePath, depth: int) -> list[WorkspacePath]:
    """What a walk should list of `FILES`."""
    start = len(base.parts)
    return sorted(
        path
        for path in KINDS
        if path.parts[:start] == base.parts and start < len(path.parts) <= start + depth
    )


@pytest.mark.parametrize("depth", [1, 2, 3, EVERY_LEVEL])
@pytest.mark.parametrize("base", ["", "a", "a/b", "z", "a b"])
async def test_it_lists_all_to_a_depth_in_order(rig: Rig, base: str, depth: int) -> None:
    """Parents first, names compared as bytes: `a/b` comes before `a-`."""
    rig.plant(FILES)

    entries = await listed(rig, base, depth=depth)

    assert [entry.path for entry in entries] == below(at(base), depth)


async def test_what_is_listed_of_an_entry_is_true(rig: Rig) -> None:
    before = time.time_ns()
    rig.plant(FILES)
    after = time.time_ns()

    entries = await listed(rig)

    assert {entry.path: entry.kind for entry in entries} == KINDS
    assert {(entry.is_link, entry.version, entry.problem) for entry in entries} == {
        (False, None, None)
    }
    for entry in entries:
        if entry.kind is Kind.FILE:
            assert entry.size in (SIZES[entry.path], None)
        if entry.mtime_ns is not None:  # some backends tell whole seconds
            assert before - 2 * 10**9 <= entry.mtime_ns <= after + 2 * 10**9


@pytest.mark.parametrize("depth", [1, EVERY_LEVEL])
async def test_an_empty_directory_has_no_entries(rig: Rig, depth: int) -> None:
    rig.plant({"d/empty": None})

    assert await listed(rig, "d/empty", depth=depth) == []


async def test_an_empty_workspace_has_no_entries_or_is_gone(rig: Rig) -> None:
    """Some backends make a workspace when they are asked for one, and know no difference."""
    try:
        assert await listed(rig) == []
    except WorkspaceGone:
        pytest.skip("a backend that does not tell an empty workspace from a missing one")


ELSEWHERE = [
    *(
        b"\x01",
        b"\xff\xff",
        b"a\x01",
        b"a/b\x01",
        b"a/b!",
        b"a/a",
        b"a/zz",
        b"a/b/c/d",
        b"b",
        b"zz",
    ),
    *(b"a.txt/below/a/file", b"a/b/c/zz/further", b"missing/d/f", b"empty/f", b"n" * 300),
]


@pytest.mark.parametrize(("base", "depth"), [("", 1), ("", EVERY_LEVEL), ("a", 2)])
async def test_it_goes_on_behind_any_path(rig: Rig, base: str, depth: int) -> None:
    """Also behind one that is not there, or that no listing gave."""
    rig.plant(FILES)
    everything = await listed(rig, base, depth=depth)

    for after in [*KINDS, *map(at, ELSEWHERE)]:
        tail = await listed(rig, base, depth=depth, after=after)
        assert tail == [entry for entry in everything if entry.path > after], after


def is_text(path: WorkspacePath) -> bool:
    return path.raw.endswith(b".txt")


def is_b(path: WorkspacePath) -> bool:
    return path.parts[-1] in (b"b", b"z", b"a-")


SELECTIONS = {
    "all": Chosen(lambda path: False, lambda path: True),
    "none": Chosen(lambda path: False, lambda path: False),
    "texts": Chosen(lambda path: False, is_text),
    "without": Chosen(is_b, lambda path: True),
    "texts without": Chosen(is_b, is_text),
    "nothing": Chosen(lambda path: True, lambda path: True),
}


@pytest.mark.parametrize("name", SELECTIONS)
async def test_it_lists_what_is_selected(rig: Rig, name: str) -> None:
    """What is excluded is not entered; what is only not listed is."""
    chosen = SELECTIONS[name]
    selection = Checking(chosen.excluded, chosen.listed)
    rig.plant(FILES)

    for depth in (1, 2, EVERY_LEVEL):
        entries = await listed(rig, depth=depth, selection=selection)
        assert [entry.path for entry in entries] == chosen.chosen(below(at(""), depth))


@pytest.mark.parametrize("name", ["texts", "texts without"])
async def test_it_goes_on_with_what_is_selected(rig: Rig, name: str) -> None:
    selection = SELECTIONS[name]
    rig.plant(FILES)
    everything = selection.chosen(below(at(""), EVERY_LEVEL))

    for after in sorted(KINDS):
        entries = await listed(rig, after=after, selection=selection)
        assert [entry.path for entry in entries] == [path for path in everything if path > after]


async def test_a_large_directory_is_listed_to_its_end(rig: Rig) -> None:
    files = {f"d/{number * 7919 % 1500}": b"" for number in range(1500)}
    rig.plant({**files, "d/1000-/f": b"", "z": b""})

    paths = [entry.path for entry in await listed(rig)]

    assert paths == sorted({*map(at, files), at("d"), at("d/1000-"), at("d/1000-/f"), at("z")})


async def test_two_walks_do_not_mix(rig: Rig) -> None:
    if rig.executor.capabilities.per_workspace == 1:
        pytest.skip("a backend that bears one call at once")
    rig.plant({f"{top}/{number}/f": b"" for top in "ab" for number in range(100)})
    walking = [rig.executor.walk(rig.workspace, at(top), depth=2) for top in "ab"]

    async with walking[0] as one, walking[1] as two:
        batches = [aiter(one), aiter(two)]
        found: list[list[WorkspacePath]] = [[], []]
        running = [True, True]
        while any(running):
            for number, each in enumerate(batches):
                batch = await anext(each, None) if running[number] else None
                running[number] = batch is not None
                found[number] += [entry.path for entry in batch or ()]

    for top, paths in zip("ab", found, strict=True):
        assert len(paths) == 200
        assert paths == sorted(paths)
        assert {path.parts[0] for path in paths} == {top.encode()}
