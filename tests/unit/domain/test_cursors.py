"""Cursors come back from clients, who may send anything."""

import base64

import pytest

from gateway.domain import cursors
from gateway.domain.errors import BadParameter
from gateway.domain.paths import WorkspacePath


def path(text: str) -> WorkspacePath:
    return WorkspacePath.parse(text.encode()) if text else WorkspacePath.ROOT


def cursor_of(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@pytest.mark.parametrize(
    ("last", "listed"),
    [("a", ""), ("a/b", ""), ("a/b", "a"), ("ä\n😀/x y", ""), ("a" * 255, ""), ("a?b>c~", "")],
)
def test_a_cursor_leads_back_to_where_it_was_made(last: str, listed: str) -> None:
    """And can stand in a query as it is."""
    cursor = cursors.encode(path(last))

    assert cursor.isascii()
    assert cursor.replace("-", "").replace("_", "").isalnum()
    assert cursors.decode(cursor, path(listed)) == path(last)


@pytest.mark.parametrize(
    ("cursor", "listed"),
    [
        ("", ""),
        ("!", ""),
        ("ä", ""),
        ("YQ==", "b"),
        ("A", ""),
        ("YQ YQ", ""),
        ("YQ\n", ""),
        (cursor_of(b"../etc"), ""),
        (cursor_of(b"a/../../b"), ""),
        (cursor_of(b"/"), ""),
        (cursor_of(b"a\x00"), ""),
        (cursor_of(b"a"), "a"),
        (cursor_of(b"ab/c"), "a"),
        (cursor_of(b"b/c"), "a"),
    ],
)
def test_what_this_listing_has_not_given_is_refused(cursor: str, listed: str) -> None:
    """Without a traceback, and without looking anything up."""
    with pytest.raises(BadParameter, match="cursor: not a cursor of this listing"):
        cursors.decode(cursor, path(listed))
