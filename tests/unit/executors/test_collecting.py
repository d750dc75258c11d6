"""What becomes a member, what does not, and what is said of the first that is too much."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from stat import S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.archives import ArchiveBounds, Member
from gateway.domain.errors import ProtocolFault, StreamBroken, TooLarge, Unsupported
from gateway.domain.model import Entry, Row
from gateway.domain.paths import WorkspacePath
from gateway.executors.collecting import Collection, collected
from gateway.service.selection import Selector

GIB = 1 << 30
UNBOUNDED = ArchiveBounds(100, GIB, GIB, 50)


def file(path: bytes, size: int | None = 1, **more: object) -> Row:
    return row(path, S_IFREG | 0o640, size, **more)


def row(
    path: bytes,
    mode: int,
    size: int | None = 0,
    *,
    is_link: bool = False,
    problem: str | None = None,
    version: int | None = None,
) -> Row:
    *above, name = path.split(b"/")
    return tuple(above), name, mode, size, 5, is_link, problem, version


def collection(*rows: Row, bounds: ArchiveBounds = UNBOUNDED, below: bytes = b"") -> Collection:
    collection = Collection(bounds)
    collection.begin(WorkspacePath.parse(below))
    collection.add(rows)
    return collection


def test_files_and_directories_are_members() -> None:
    got = collection(
        row(b"d", S_IFDIR | 0o1755),
        file(b"d/f", 12, version=7),
        file(b"d/link", 13, is_link=True),
    )

    assert got.members == [
        Member((b"d",), True, 0, 5, 0o1755),
        Member((b"d", b"f"), False, 12, 5, 0o640, 7),
        Member((b"d", b"link"), False, 13, 5, 0o640),
    ]
    assert got.skipped.count == 0


@pytest.mark.parametrize(
    "skipped",
    [
        row(b"x", S_IFLNK | 0o777, is_link=True),
        row(b"x", S_IFDIR | 0o755, is_link=True),
        row(b"x", S_IFIFO | 0o600),
        row(b"x", 0, None, problem="not readable"),
        row(b"x", 0, None),
        row(b"x", S_IFDIR | 0o700, problem="not readable"),
        file(b"x", problem="not readable"),
        file(b"x", GIB + 1, problem="not readable"),
    ],
)
def test_whatever_else_there_is_is_counted(skipped: Row) -> None:
    got = collection(file(b"a"), skipped, file(b"z"))

    assert [member.parts for member in got.members] == [(b"a",), (b"z",)]
    assert got.skipped.count == 1


def test_a_file_whose_size_is_not_told_cannot_be_planned() -> None:
    with pytest.raises(Unsupported):
        collection(file(b"f", None))


@pytest.mark.parametrize("second", [b"b", b"a", b"b/c"])
def test_an_executor_that_lists_out_of_order_is_not_believed(second: bytes) -> None:
    """Or twice: no two members have the same path."""
    with pytest.raises(ProtocolFault):
        collection(file(b"b/c"), file(second))


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        (
            ArchiveBounds(2, GIB, GIB, 50),
            "archive exceeds maximum number of entries (2) at 'd/g'; to leave that out:"
            " exclude=/d/g",
        ),
        (
            ArchiveBounds(9, 3 << 20, GIB, 50),
            "archive exceeds maximum size (3MB) at 'd/g'; to leave that out: exclude=/d/g",
        ),
        (
            ArchiveBounds(9, GIB, 2 << 20, 50),
            "file exceeds maximum size limit (2MB) at 'd/g'; to leave that out: exclude=/d/g",
        ),
        (
            ArchiveBounds(9, GIB, GIB, 1),
            "archive exceeds maximum depth (1 levels) at 'd'; to leave that out: exclude=/d",
        ),
    ],
)
def test_the_first_that_is_too_much_is_named(bounds: ArchiveBounds, said: str) -> None:
    rows = [row(b"d", S_IFDIR), file(b"d/f", 1 << 20), file(b"d/g", (2 << 20) + 1)]

    with pytest.raises(TooLarge) as raised:
        collection(*rows, bounds=bounds)

    assert raised.value.message == said


def test_what_was_asked_for_counts_as_an_entry() -> None:
    with pytest.raises(TooLarge):
        collection(file(b"d/f"), bounds=ArchiveBounds(1, GIB, GIB, 50), below=b"d")


ODD = st.text(
    st.sampled_from("a\\*?[]!# \t\n\x7f\u202e\xa0\u3000é\uef80😀"), min_size=1, max_size=6
)
PATHS = st.lists(ODD.filter(lambda name: name not in (".", "..")), min_size=1, max_size=3)


@given(parts=PATHS, is_directory=st.booleans())
def test_the_pattern_that_is_told_leaves_it_out(parts: list[str], is_directory: bool) -> None:
    """It is fit to be shown, too."""
    path = WorkspacePath.parse("/".join(parts).encode())
    bounds = ArchiveBounds(0, GIB, GIB, 50)
    mode = S_IFDIR if is_directory else S_IFREG

    with pytest.raises(TooLarge) as raised:
        collection(row(path.raw, mode, 1), bounds=bounds)

    message = raised.value.message
    assert message.isprintable()
    pattern = message.split("exclude=", 1)[1]
    selector = Selector.parse(None, [pattern])
    assert selector is not None
    assert selector.excludes(path, is_directory)
    assert not selector.excludes(WorkspacePath((b"elsewhere", *path.parts)), is_directory)


class Broken:
    """A walk that has begun, and ends with *error*."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def __aiter__(self) -> AsyncIterator[Sequence[Entry]]:
        yield []
        raise self.error


async def test_a_walk_that_breaks_is_an_outage() -> None:
    """Nothing was answered yet: another executor may be asked."""

    @asynccontextmanager
    async def walk(path: WorkspacePath) -> AsyncIterator[Broken]:
        yield Broken(StreamBroken("cut short"))

    with pytest.raises(ProtocolFault) as raised:
        await collected([WorkspacePath.ROOT], UNBOUNDED, walk)

    assert raised.value.message == "cut short"
