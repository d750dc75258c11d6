"""An archive has what a walk finds and the bytes that are there, or it is refused beforehand."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random

import pytest

from gateway.archive.names import names_for
from gateway.domain.archives import ArchiveBounds, Format, Member, Packing
from gateway.domain.errors import (
    ArchiveFailed,
    NotADirectory,
    PathNotFound,
    SessionNotFound,
    StreamBroken,
    TooLarge,
    WorkspaceGone,
)
from gateway.domain.paths import text_to_name
from gateway.executors.base import Archives, Links
from gateway.executors.streams import EVERYTHING, NOTHING, ArchiveStream, Packed, Wanted
from tests.contract.asking import (
    UNBOUNDED,
    asked,
    at,
    keeps_nothing,
    listed,
    members_of,
    packed,
    part,
    refusal,
    whole,
)
from tests.contract.test_names import NAMES
from tests.contract.test_walk import SELECTIONS
from tests.rigs import Rig

FILES = {
    "a/b/c/d.txt": b"1234",
    "a/b.txt": b"",
    "a-": b"12",
    "a.txt": b"123",
    "a b/f.txt": b"12345",
    "empty": None,
    "z/y/x": b"deep" * 100_000,
}
TREE = {
    **{name.encode(): content for name, content in FILES.items()},
    **dict.fromkeys([b"a", b"a/b", b"a/b/c", b"a b", b"z", b"z/y"]),
}


@pytest.fixture(autouse=True)
def _gives_archives(rig: Rig) -> None:
    if rig.executor.capabilities.archives is Archives.REFUSED:
        pytest.skip("an executor that makes no archives")


@pytest.fixture
def _gives_members(rig: Rig) -> None:
    if rig.executor.capabilities.archives is Archives.WHOLE:
        pytest.skip("an executor that gives whole archives")


@pytest.fixture
def _gives_whole(rig: Rig) -> None:
    if rig.executor.capabilities.archives is not Archives.WHOLE:
        pytest.skip("an executor that gives members")


gives_members = pytest.mark.usefixtures("_gives_members")
gives_whole = pytest.mark.usefixtures("_gives_whole")


PARTS = [(0, None), (0, 1), (1, 10), (511, 1024), (1000, None)]


@asynccontextmanager
async def archived(rig: Rig, wanted: Packed) -> AsyncIterator[ArchiveStream]:
    async with rig.executor.archive(rig.workspace, wanted) as archive:
        assert isinstance(archive, ArchiveStream)
        yield archive


async def obtained(rig: Rig, wanted: Packed) -> tuple[bytes, str | None]:
    """The bytes of a whole archive, and its version."""
    async with archived(rig, wanted) as archive:
        await archive.prepare(whole=False)
        return await whole(archive), archive.entry.version


def in_order(tree: dict[bytes, bytes | None], *tops: str) -> list[tuple[bytes, bytes | None]]:
    """What of *tree* lies in the directories *tops*, and these."""
    wanted = [at(top) for top in tops]
    found = {
        at(path): content
        for path, content in tree.items()
        if any(at(path).parts[: len(top.parts)] == top.parts for top in wanted)
    }
    return [(path.raw, found[path]) for path in sorted(found)]


async def found(rig: Rig, wanted: Packed) -> list[tuple[bytes, bytes | None]]:
    """Its members with their contents, of which nothing was skipped."""
    members, skipped = await packed(rig.executor, rig.workspace, wanted)
    assert skipped == 0
    return [*members.items()]


async def test_it_has_every_file_and_directory_in_order(rig: Rig) -> None:
    rig.plant(FILES)

    assert await found(rig, asked()) == in_order(TREE, "")


@gives_members
async def test_what_is_told_of_a_member_is_what_a_listing_tells(rig: Rig) -> None:
    rig.plant(FILES)

    async with members_of(rig.executor, rig.workspace, asked()) as members:
        told = {member.parts: member for member in members.members}
        assert members.source
    for entry in await listed(rig):
        parts, is_directory, size, mtime_ns, mode, _ = told.pop(entry.path.parts)
        assert is_directory == (TREE[b"/".join(parts)] is None)
        assert size == (0 if is_directory else entry.size)
        assert (mtime_ns, mode) == (entry.mtime_ns, entry.mode)
    assert not told


@gives_members
async def test_a_plan_is_the_same_twice_and_another_when_a_file_is(rig: Rig) -> None:
    rig.plant({"d/f": b"one", "d/g": b""})

    async def plan() -> list[Member]:
        async with members_of(rig.executor, rig.workspace, asked()) as members:
            return [*members.members]

    before = await plan()
    assert await plan() == before
    if before[1].version is None:
        return
    await asyncio.sleep(0.02)  # the clock of a disk ticks every 4 ms
    rig.plant({"d/f": b"two"})
    after = await plan()
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, True]


@pytest.mark.parametrize(
    "tops", [["a"], ["z", "a"], ["a/b", "a", "a/b/c"], ["a/b", "z/y", "a b"], ["empty"], ["a", ""]]
)
async def test_it_has_the_directories_that_were_asked_for(rig: Rig, tops: list[str]) -> None:
    """Each once, with its own entry; those above them are not there."""
    rig.plant(FILES)

    assert await found(rig, asked(*tops)) == in_order(TREE, *tops)


@gives_members
async def test_of_a_directory_that_was_asked_for_nothing_else_is_told(rig: Rig) -> None:
    rig.plant(FILES)

    async with members_of(rig.executor, rig.workspace, asked("a/b")) as members:
        assert members.members[0] == ((b"a", b"b"), True, 0, None, 0o755, None)


@gives_members
@pytest.mark.parametrize("name", SELECTIONS)
async def test_what_is_excluded_is_not_in_it(rig: Rig, name: str) -> None:
    rig.plant(FILES)
    selection = SELECTIONS[name]
    chosen = selection.chosen(sorted(map(at, TREE)))

    assert await found(rig, asked(selection=selection)) == [
        (path.raw, TREE[path.raw]) for path in chosen
    ]


async def test_every_name_is_a_members_name(rig: Rig) -> None:
    files = {f"{name}/{name}": name.encode() for name in NAMES}
    rig.plant(files)
    tree = {
        **{name.encode(): content for name, content in files.items()},
        **{name.encode(): None for name in NAMES},
    }
    expected = in_order(tree, "")
    if rig.executor.capabilities.archives is Archives.WHOLE:  # under names that any system takes
        members = [Member(at(path).parts, body is None, 0, None, 0) for path, body in expected]
        names = [text_to_name(name.rstrip("/")) for name in names_for(Format.TAR, members)]
        expected = [(name, body) for name, (_, body) in zip(names, expected, strict=True)]

    assert await found(rig, asked()) == expected


async def test_an_empty_directory_is_an_archive_with_one_member(rig: Rig) -> None:
    rig.plant({"d/empty": None})

    assert await found(rig, asked("d/empty")) == [(b"d/empty", None)]


async def test_an_empty_workspace_is_an_empty_archive_or_gone(rig: Rig) -> None:
    try:
        assert await found(rig, asked()) == []
    except WorkspaceGone:
        pytest.skip("a backend that does not tell an empty workspace from a missing one")


async def test_what_is_no_directory_has_no_archive(rig: Rig) -> None:
    """Also if there are others."""
    rig.plant(FILES)

    for path, expected in [
        ("missing", {PathNotFound}),
        ("a/missing", {PathNotFound}),
        ("a.txt", {NotADirectory}),
        ("a.txt/x", {PathNotFound, NotADirectory}),
    ]:
        for wanted in (asked(path), asked("z", path)):
            assert await refusal(rig.executor.archive(rig.workspace, wanted)) in expected, path


async def test_a_missing_workspace_has_no_archive(rig: Rig) -> None:
    rig.plant(FILES)
    missing = f"{rig.workspace}-missing"

    for wanted in (asked(), asked("a")):
        refused = await refusal(rig.executor.archive(missing, wanted))
        assert refused in (SessionNotFound, WorkspaceGone)


BOUNDS = [
    (
        replace(UNBOUNDED, entries=3),
        "archive exceeds maximum number of entries (3) at 'a/b/c/d.txt'",
    ),
    (replace(UNBOUNDED, bytes=6), "archive exceeds maximum size (6 bytes) at 'a b/f.txt'"),
    (replace(UNBOUNDED, file=3), "file exceeds maximum size limit (3 bytes) at 'a/b/c/d.txt'"),
    (replace(UNBOUNDED, depth=2), "archive exceeds maximum depth (2 levels) at 'a/b'"),
]


@pytest.mark.parametrize(("bounds", "limit"), BOUNDS, ids=["entries", "bytes", "file", "depth"])
async def test_what_is_out_of_bounds_is_refused_by_its_name(
    rig: Rig, bounds: ArchiveBounds, limit: str
) -> None:
    """By a backend that makes archives only as far as it tells what they hold."""
    is_told = bounds.file == UNBOUNDED.file and bounds.depth == UNBOUNDED.depth
    if rig.executor.capabilities.archives is Archives.WHOLE and not is_told:
        pytest.skip("a limit of the backend's own")
    rig.plant(FILES)

    with pytest.raises(TooLarge) as raised:
        async with rig.executor.archive(rig.workspace, asked(bounds=bounds)):
            pytest.fail("it was entered")

    assert raised.value.message.startswith(limit + "; to leave that out: exclude=/")


async def test_bounds_may_be_reached(rig: Rig) -> None:
    rig.plant(FILES)
    sizes = [len(content) for content in TREE.values() if content is not None]
    bounds = replace(UNBOUNDED, entries=len(TREE), bytes=sum(sizes), file=max(sizes), depth=4)

    assert await found(rig, asked(bounds=bounds)) == in_order(TREE, "")


async def test_depth_is_counted_from_where_it_begins(rig: Rig) -> None:
    rig.plant(FILES)
    bounds = replace(UNBOUNDED, depth=2)

    assert await found(rig, asked("a/b", bounds=bounds)) == in_order(TREE, "a/b")


LINKS = {
    "l-dangling": "nothing",
    "l-loop": "l-loop",
    "l-out": "/etc/passwd",
    "l-up": "../..",
    "l-dir": "a",
    "a/l-dir": "../a",
}


async def test_links_to_files_are_files_and_others_are_counted(rig: Rig) -> None:
    """Rows 11 and 12: nothing of what lies outside is there, nor a directory twice."""
    if rig.executor.capabilities.links is not Links.RESOLVED:
        pytest.skip("an executor that does not tell links from what they lead to")
    rig.plant({**FILES, **LINKS, "l-file": "a/b/c/d.txt", "a/l-file": "../a.txt"})

    members, skipped = await packed(rig.executor, rig.workspace, asked())

    tree = {**TREE, b"l-file": b"1234", b"a/l-file": b"123"}
    assert [*members.items()] == in_order(tree, "")
    assert skipped == len(LINKS)


@gives_members
async def test_a_member_that_is_gone_is_not_found(rig: Rig) -> None:
    """Its archive cannot be completed; the others are still had."""
    rig.plant({"d/f": b"one", "e/g": b"two"})

    async with members_of(rig.executor, rig.workspace, asked()) as members:
        _, file, _, other = members.members
        gone = file._replace(parts=(b"d", b"gone"))
        assert await refusal(members.open(gone)) is PathNotFound
        async with members.open(other) as stream:
            assert await stream.read(0, 3) == b"two"


@gives_whole
@pytest.mark.parametrize("form", Format)
async def test_a_whole_archive_has_a_length_a_version_and_any_part(rig: Rig, form: Format) -> None:
    rig.plant({**FILES, "noise": Random(1).randbytes(5000)})
    everything = replace(asked(), packing=Packing(form))

    content, version = await obtained(rig, everything)
    for first, count in PARTS:
        async with archived(rig, replace(everything, wanted=Wanted(first, count))) as archive:
            assert archive.entry.version == version
            await archive.prepare(whole=True)
            assert (archive.entry.size, archive.entry.version) == (len(content), version)
            expected = content[first:][:count]
            assert await part(archive, first, len(expected)) == expected
            assert await archive.read(0, 4) == content[:4]
            assert await part(archive, 100, 200) == content[100:300]
    assert await obtained(rig, everything) == (content, version)


@gives_whole
async def test_what_is_known_of_a_whole_archive_is_told(rig: Rig) -> None:
    """All of it before anything is made, if nothing may be wanted."""
    rig.plant({**FILES, "l-out": "/etc/passwd"})

    for wanted in (EVERYTHING, NOTHING):
        async with archived(rig, replace(asked(), wanted=wanted)) as archive:
            assert archive.source
            assert (archive.entries, archive.skipped) == (len(TREE), 1)
            assert archive.uncompressed == sum(len(content or b"") for content in TREE.values())


@gives_whole
async def test_a_whole_archive_whose_workspace_changes_is_never_two(rig: Rig) -> None:
    rig.plant({"d/f": b"one", "d/g": b"two"})

    async with archived(rig, replace(asked(), wanted=NOTHING)) as archive:
        await asyncio.sleep(0.02)  # the clock of a disk ticks every 4 ms
        rig.plant({"d/f": b"other"})
        with pytest.raises(ArchiveFailed):
            await archive.prepare(whole=True)
    async with archived(rig, asked()) as later:
        assert later.entry.version != archive.entry.version
        await later.prepare(whole=True)
        assert len(await part(later, 0, 600)) == 600
        rig.plant({"d/f": b"and another"})
        with pytest.raises(StreamBroken):
            await part(later, 0, 600)


async def leave_at_once(rig: Rig) -> None:
    async with rig.executor.archive(rig.workspace, asked()):
        pass


async def leave_after_a_body(rig: Rig) -> None:
    """Of what is made elsewhere: after its first bytes."""
    async with rig.executor.archive(rig.workspace, asked()) as archive:
        if isinstance(archive, ArchiveStream):
            await archive.prepare(whole=False)
            async for _ in archive.chunks(0, archive.entry.size):
                break
            return
        for member in archive.members[-2:]:
            if not member.is_directory:
                async with archive.open(member) as stream:
                    async for _ in stream.chunks(0, member.size):
                        break


async def leave_out_of_bounds(rig: Rig) -> None:
    wanted = asked(bounds=replace(UNBOUNDED, entries=100))
    assert await refusal(rig.executor.archive(rig.workspace, wanted)) is TooLarge


@pytest.mark.parametrize("leave", [leave_at_once, leave_after_a_body, leave_out_of_bounds])
async def test_an_archive_that_is_left_keeps_nothing(
    rig: Rig, leave: Callable[[Rig], Coroutine[None, None, None]]
) -> None:
    rig.plant({**{f"d/{number:03}": b"" for number in range(300)}, "z": b"0123456789" * 50_000})

    async def leave_often() -> None:
        for _ in range(8):
            await leave(rig)

    await keeps_nothing(leave_often)


async def test_an_archive_may_be_cancelled_at_any_moment(rig: Rig) -> None:
    rig.plant({f"d{number % 7}/{number:03}": b"" for number in range(300)})
    start = time.perf_counter()
    await leave_at_once(rig)
    duration_s = time.perf_counter() - start

    await keeps_nothing(lambda: cancelled_often(rig, duration_s))
    assert len((await packed(rig.executor, rig.workspace, asked()))[0]) == 307


async def cancelled_often(rig: Rig, within_s: float) -> None:
    for tenth in range(11):
        task = asyncio.create_task(leave_at_once(rig))
        await asyncio.sleep(within_s * tenth / 10)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=5)
        assert done
