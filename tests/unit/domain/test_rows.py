"""Entries as plain values, and back."""

from stat import S_IFBLK, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, S_IFSOCK

import pytest

from gateway.domain.model import Entry, Kind, Row, Rows, rows_of
from gateway.domain.paths import WorkspacePath

ROWS: list[Row] = [
    ((), b"d", S_IFDIR | 0o755, 0, 1, False, None, None),
    ((b"d",), b"closed", S_IFDIR | 0o1700, 0, -2, False, "not readable", None),
    ((b"d",), b"f\xff", S_IFREG | 0o4755, 12, 3, False, None, None),
    ((b"d",), b"link", S_IFREG | 0o644, 13, 4, True, None, None),
    ((b"d",), b"out", S_IFLNK | 0o777, 0, 5, True, None, None),
    ((b"d",), b"pipe", S_IFIFO | 0o600, 0, 6, False, None, None),
    ((b"d",), b"unknown", 0, None, 0, False, "not readable", None),
]
ENTRIES = [
    Entry(WorkspacePath((b"d",)), Kind.DIRECTORY, 0, 1, 0o755),
    Entry(WorkspacePath((b"d", b"closed")), Kind.DIRECTORY, 0, -2, 0o1700, problem="not readable"),
    Entry(WorkspacePath((b"d", b"f\xff")), Kind.FILE, 12, 3, 0o4755),
    Entry(WorkspacePath((b"d", b"link")), Kind.FILE, 13, 4, 0o644, is_link=True),
    Entry(WorkspacePath((b"d", b"out")), Kind.SYMLINK, 0, 5, 0o777, is_link=True),
    Entry(WorkspacePath((b"d", b"pipe")), Kind.OTHER, 0, 6, 0o600),
    Entry(WorkspacePath((b"d", b"unknown")), Kind.UNKNOWN, None, 0, 0, problem="not readable"),
]


def test_rows_are_a_sequence_of_entries() -> None:
    rows = Rows(ROWS)

    assert list(rows) == ENTRIES
    assert len(rows) == len(ENTRIES)
    assert rows[2] == ENTRIES[2]
    assert rows[-1] == ENTRIES[-1]
    assert list(rows[1:3]) == ENTRIES[1:3]
    assert ENTRIES[4] in rows
    assert list(reversed(rows)) == ENTRIES[::-1]


@pytest.mark.parametrize("kind", [S_IFSOCK, S_IFBLK])
def test_what_is_neither_file_nor_directory_nor_link_is_other(kind: int) -> None:
    (entry,) = Rows([((), b"x", kind | 0o600, 0, 0, False, None, None)])

    assert (entry.kind, entry.mode) == (Kind.OTHER, 0o600)


def test_entries_have_the_rows_that_they_are_made_of() -> None:
    assert rows_of(ENTRIES) == ROWS
    assert rows_of(Rows(ROWS)) is ROWS
