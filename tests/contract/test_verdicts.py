"""What cannot be had is refused while it is entered, by the verdict that is true."""

import pytest

from gateway.domain.errors import (
    NotADirectory,
    NotAFile,
    PathNotFound,
    SessionNotFound,
    WorkspaceGone,
)
from tests.contract.asking import at, content, listed, refusal
from tests.rigs import Rig

FILES = {"f": b"file", "d/f": b"file", "d/sub/x": b"x", "empty": None}

NOTHING_THERE = {PathNotFound, NotADirectory}
"""A file where the path goes on: many backends say of that only that nothing is there."""

OPENED = [
    ("missing", {PathNotFound}),
    ("d/missing", {PathNotFound}),
    ("missing/f", {PathNotFound}),
    ("F", {PathNotFound}),
    ("f ", {PathNotFound}),
    ("n" * 256, {PathNotFound}),
    ("", {NotAFile}),
    ("d", {NotAFile}),
    ("d/sub", {NotAFile}),
    ("empty", {NotAFile}),
    ("f/x", NOTHING_THERE),
    ("f/x/y", NOTHING_THERE),
    ("d/f/f", NOTHING_THERE),
]

WALKED = [
    ("missing", {PathNotFound}),
    ("d/missing", {PathNotFound}),
    ("missing/d", {PathNotFound}),
    ("n" * 256, {PathNotFound}),
    ("f", {NotADirectory}),
    ("d/f", {NotADirectory}),
    ("f/x", NOTHING_THERE),
    ("d/f/x", NOTHING_THERE),
]


async def test_what_is_no_file_is_not_opened(rig: Rig) -> None:
    rig.plant(FILES)

    for path, expected in OPENED:
        got = await refusal(rig.executor.open(rig.workspace, at(path)))
        assert got in expected, path
    assert await content(rig, "d/f") == b"file"


@pytest.mark.parametrize("depth", [1, 100])
async def test_what_is_no_directory_is_not_walked(rig: Rig, depth: int) -> None:
    rig.plant(FILES)

    for path, expected in WALKED:
        got = await refusal(rig.executor.walk(rig.workspace, at(path), depth=depth))
        assert got in expected, path
    assert [entry.path for entry in await listed(rig, "d/sub", depth=depth)] == [at("d/sub/x")]


async def test_a_missing_workspace_is_not_an_empty_one(rig: Rig) -> None:
    """Whether nobody has it, or only this backend, is for the executor to know."""
    rig.plant(FILES)
    missing = f"{rig.workspace}-missing"

    for path in ("f", "missing", ""):
        opening = await refusal(rig.executor.open(missing, at(path)))
        walking = await refusal(rig.executor.walk(missing, at(path), depth=1))
        assert opening in (SessionNotFound, WorkspaceGone)
        assert walking in (SessionNotFound, WorkspaceGone)


async def test_what_was_refused_may_come(rig: Rig) -> None:
    """A verdict is of the moment; nothing keeps it."""
    rig.plant({"d/a": b""})
    assert await refusal(rig.executor.open(rig.workspace, at("d/new"))) is PathNotFound
    assert len(await listed(rig, "d")) == 1

    rig.plant({"d/new": b"new"})

    assert await content(rig, "d/new") == b"new"
    assert [entry.path.raw for entry in await listed(rig, "d")] == [b"d/a", b"d/new"]
