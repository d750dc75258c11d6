"""Where an open file lies below the root: what a proxy may be told to open."""

import os
from pathlib import Path

import pytest

from gateway.domain.paths import WorkspacePath
from tests.unit.executors.local.rig import RESOLVERS, Place, running


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.file("d/e/f", b"1")
    place.file("f (deleted)", b"2")
    place.file("new\nline", b"3")
    place.link("to-file", "d/e/f")
    place.link("to-directory", "d")
    place.link("up", "d/../d/e/f")
    return place


@pytest.mark.parametrize("resolver", RESOLVERS)
@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("d/e/f", b"s1/d/e/f"),
        ("to-file", b"s1/d/e/f"),
        ("to-directory/e/f", b"s1/d/e/f"),
        ("up", b"s1/d/e/f"),
        ("f (deleted)", b"s1/f (deleted)"),
        ("new\nline", b"s1/new\nline"),
    ],
)
async def test_it_is_the_path_without_links(
    place: Place, resolver: str, asked: str, found: bytes
) -> None:
    async with (
        running(place, resolver) as executor,
        executor.open("s1", WorkspacePath.parse(asked.encode())) as stream,
    ):
        assert await stream.location() == found


async def test_the_root_may_be_reached_by_a_link(place: Place, tmp_path: Path) -> None:
    place.root.rename(tmp_path / "real")
    place.root.symlink_to(tmp_path / "real")
    async with (
        running(place, "auto") as executor,
        executor.open("s1", WorkspacePath.parse(b"d/e/f")) as stream,
    ):
        assert await stream.location() == b"s1/d/e/f"


CHANGES = {
    "removed": lambda place: (place.session / "d/e/f").unlink(),
    "moved out": lambda place: (place.session / "d/e/f").rename(place.root / "f"),
    "moved to another session": lambda place: (
        (place.root / "s1-other").mkdir(),
        (place.session / "d/e/f").rename(place.root / "s1-other" / "f"),
    ),
    "session moved": lambda place: place.session.rename(place.root / "s2"),
    "root moved": lambda place: place.root.rename(place.root.with_name("elsewhere")),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_it_is_told_only_while_it_is_below_the_session(place: Place, change: str) -> None:
    async with (
        running(place, "auto") as executor,
        executor.open("s1", WorkspacePath.parse(b"d/e/f")) as stream,
    ):
        CHANGES[change](place)
        told = await stream.location()

    # A root that moves takes all of it along.
    assert told == (b"s1/d/e/f" if change == "root moved" else None)


async def test_a_removed_file_is_not_taken_for_one_of_the_name_that_the_kernel_gives_it(
    place: Place,
) -> None:
    """The kernel shows a removed `f` as `f (deleted)`, which may exist."""
    place.file("f", b"4")
    async with (
        running(place, "auto") as executor,
        executor.open("s1", WorkspacePath.parse(b"f")) as stream,
    ):
        (place.session / "f").unlink()
        assert os.path.exists(place.session / "f (deleted)")
        assert await stream.location() is None


async def test_a_file_that_was_renamed_is_told_by_its_new_name(place: Place) -> None:
    async with (
        running(place, "auto") as executor,
        executor.open("s1", WorkspacePath.parse(b"d/e/f")) as stream,
    ):
        (place.session / "d").rename(place.session / "moved")
        assert await stream.location() == b"s1/moved/e/f"
