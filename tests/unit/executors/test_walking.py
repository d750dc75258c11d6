"""Walks of backends that list one directory at a time: what is held of them on the way down."""

import pytest

from gateway.domain.errors import Unsupported
from gateway.domain.model import Entry, Kind
from gateway.domain.paths import WorkspacePath
from gateway.executors.engines.walking import MOST_HELD, DirectoryWalk

_FILES = 20_000


async def listed(directory: WorkspacePath) -> list[Entry]:
    """A directory in which there is another such directory, before many files."""
    below = Entry(directory.child(b"a"), Kind.DIRECTORY, 0, None, 0)
    return [
        below,
        *(Entry(directory.child(b"f%d" % n), Kind.FILE, 1, None, 0) for n in range(_FILES)),
    ]


async def count(depth: int) -> int:
    children = await listed(WorkspacePath.ROOT)
    walk = DirectoryWalk(
        "x", WorkspacePath.ROOT, children, listed, depth=depth, after=None, selection=None
    )
    return sum([len(batch) async for batch in walk])


async def test_a_wide_and_deep_tree_is_listed_whole():
    depth = MOST_HELD // (_FILES + 1)

    assert await count(depth) == depth * (_FILES + 1)


async def test_a_backend_whose_tree_has_no_end_is_left_before_memory_is_full():
    with pytest.raises(Unsupported):
        await count(256)
