"""The profile of OpenHands' agent-server, which cannot list: the real one, or else a double."""

import os
from collections.abc import AsyncIterator

import pytest

from gateway.domain.errors import (
    GatewayError,
    NotADirectory,
    NotAFile,
    PathNotFound,
    Unsupported,
    WorkspaceGone,
)
from gateway.domain.paths import WorkspacePath
from gateway.executors.streams import (
    Members,
    Packed,
    Wanted,
)
from gateway.service.selection import Selector
from tests import needs, programs
from tests.doubles.openhands import openhands
from tests.rigs import Rig
from tests.rigs.http_profile import below, reaching
from tests.unit.executors.engines.tars import Given, held, packed

CONTENT = bytes(range(256)) * 2000


@pytest.fixture(params=["real", "double"])
async def rig(request: pytest.FixtureRequest, tmp_path) -> AsyncIterator[Rig]:
    settings = {"profile": "openhands", "token": programs.TOKEN, "root": below(tmp_path)}
    if request.param == "real":
        if not needs.has_backend("openhands/bin/python"):
            pytest.skip("needs Python 3.12 and openhands-agent-server: make backends")
        async with reaching(tmp_path, url=programs.openhands(), **settings) as running:
            yield running
    else:
        async with (
            openhands(programs.TOKEN) as url,
            reaching(tmp_path, url=url, **settings) as running,
        ):
            yield running


def at(path: str) -> WorkspacePath:
    return WorkspacePath(tuple(os.fsencode(path).split(b"/")))


async def test_a_file_is_had_in_any_part(rig):
    rig.plant({"d/f": CONTENT})

    assert (await rig.executor.probe()).ready
    async with rig.executor.open("s1", at("d/f"), Wanted(first=100_000, count=10)) as stream:
        assert stream.entry.size == len(CONTENT)
        assert await stream.read(100_000, 10) == CONTENT[100_000:100_010]
        assert await stream.read(5, 3) == CONTENT[5:8]
        whole = b"".join([chunk async for chunk in stream.chunks(0, len(CONTENT))])
    assert whole == CONTENT


@pytest.mark.parametrize("name", ["a b", "100%41", "a?b#c&d", "new\nline", "é\\", "{path}", '"'])
async def test_a_name_is_a_name(rig, name):
    rig.plant({name: name.encode()})

    async with rig.executor.open("s1", at(name)) as stream:
        assert await stream.read(0, len(name.encode())) == name.encode()


async def test_an_empty_file_is_empty_whatever_part_is_wanted(rig):
    rig.plant({"empty": b""})

    async with rig.executor.open("s1", at("empty"), Wanted(0, 512)) as stream:
        assert stream.entry.size == 0
        assert [chunk async for chunk in stream.chunks(0, 0)] == []


async def test_another_version_has_another_tag(rig):
    rig.plant({"f": b"one"})
    async with rig.executor.open("s1", at("f")) as stream:
        first = stream.entry.version
    rig.plant({"f": b"other"})
    async with rig.executor.open("s1", at("f")) as stream:
        second = stream.entry.version

    assert None not in (first, second)
    assert first != second


@pytest.mark.parametrize(
    ("workspace", "path", "expected"),
    [
        ("s1", "missing", PathNotFound),
        ("s1", "d/missing", PathNotFound),
        ("s1", "f/x", PathNotFound),
        ("s1", "d", NotAFile),
        ("s1", "\udcff", Unsupported),
        ("s2", "f", WorkspaceGone),
        ("s2", "d", WorkspaceGone),
    ],
)
async def test_what_cannot_be_had_is_told(rig, workspace, path, expected):
    rig.plant({"f": b"x", "d": None})

    with pytest.raises(GatewayError) as raised:
        async with rig.executor.open(workspace, at(path)):
            pass

    assert type(raised.value) is expected


async def test_it_cannot_list(rig):
    """An outage, so that the next in the chain is asked."""
    with pytest.raises(Unsupported):
        async with rig.executor.walk("s1", WorkspacePath.ROOT, depth=1):
            pass


async def archived(rig: Rig, asked: Packed | None = None, workspace: str = "s1") -> Given:
    async with rig.executor.archive(workspace, asked or packed()) as members:
        assert isinstance(members, Members)
        return await held(members)


FILES: dict[str | bytes, bytes | str | None] = {
    "a.txt": b"1",
    "d/e/" + "long" * 40: CONTENT,
    "d/\udcff\udcfe": b"not UTF-8",
    "d/é\n": b"",
    "empty": None,
}
DIRECTORIES = dict.fromkeys([b"d", b"d/e", b"empty"])
TREE = {**{os.fsencode(path): held for path, held in FILES.items()}, **DIRECTORIES}


async def test_a_workspace_is_packed_by_its_server(rig):
    """Which adds a file of its own, and leaves out links, without a word."""
    rig.plant({**FILES, "link": "a.txt"})

    found = await archived(rig)

    assert found.contents == TREE
    assert all(member.mtime_ns for member in found.members.values())


async def test_a_directory_is_packed_by_itself(rig):
    rig.plant(FILES)

    found = await archived(rig, packed(paths=(at("d/e"), at("empty"))))

    wanted = {path: held for path, held in TREE.items() if path.startswith((b"d/e", b"empty"))}
    assert found.contents == wanted


async def test_a_file_of_the_name_that_the_server_uses_is_there(rig):
    rig.plant({"archive_manifest.json": b"own", "f": b""})

    assert (await archived(rig)).contents == {b"archive_manifest.json": b"own", b"f": b""}


@pytest.mark.parametrize("exclude", [("dist/", "n.log"), ("*.log", "dist/"), ("dist/", "*.log")])
async def test_what_is_excluded_is_left_out(rig, exclude):
    rig.plant({"dist/f": b"", "d/dist/g": b"", "n.log": b"", "d/n.log": b"", "e/dist": b"file"})
    selection = Selector.parse(None, exclude)

    found = await archived(rig, packed(selection=selection, exclude=exclude))

    assert found.contents == {b"d": None, b"e": None, b"e/dist": b"file"}


async def test_a_repository_is_packed_like_any_directory(rig):
    rig.plant({".git/HEAD": b"ref: refs/heads/main", "f": b"1"})

    assert (await archived(rig)).contents[b"f"] == b"1"


async def test_another_directory_than_was_asked_for_is_refused(rig):
    """It would pack the one repository instead, also if that has the name of the workspace."""
    rig.plant({"s1/.git/HEAD": b"ref: refs/heads/main", "s1/f": b"", "beside": b""})

    with pytest.raises(Unsupported):
        await archived(rig)
    assert b"s1/f" in (await archived(rig, packed(paths=(at("s1"),)))).contents


@pytest.mark.parametrize(
    ("workspace", "path", "expected"),
    [
        ("s1", "missing", PathNotFound),
        ("s1", "f", NotADirectory),
        ("s1", "f/x", PathNotFound),
        ("s2", "", WorkspaceGone),
        ("s2", "d", WorkspaceGone),
        ("s1", "\udcff", Unsupported),
    ],
)
async def test_what_is_no_directory_is_not_packed(rig, workspace, path, expected):
    rig.plant({"f": b"x"})

    with pytest.raises(GatewayError) as raised:
        await archived(rig, packed(paths=(at(path) if path else WorkspacePath.ROOT,)), workspace)

    assert type(raised.value) is expected
