"""JSON Pointers, by RFC 6901."""

import pytest

from gateway.executors.http_profile.pointer import MISSING, found

DOCUMENT = {
    "foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, 'k"l': 6,
    " ": 7, "m~n": 8, "null": None, "01": 9,
}  # fmt: skip


@pytest.mark.parametrize(
    ("pointer", "expected"),
    [
        ("", DOCUMENT), ("/foo", ["bar", "baz"]), ("/foo/0", "bar"), ("/", 0), ("/a~1b", 1),
        ("/c%d", 2), ("/e^f", 3), ("/g|h", 4), ("/i\\j", 5), ('/k"l', 6), ("/ ", 7), ("/m~0n", 8),
        ("/null", None), ("/01", 9),
    ],
)  # fmt: skip
def test_the_examples_of_section_5(pointer, expected):
    assert found(DOCUMENT, pointer) == expected


@pytest.mark.parametrize(
    "pointer",
    [
        "/missing", "/foo/2", "/foo/-", "/foo/-1", "/foo/01", "/foo/+1", "/foo/\u0661", "/foo/0/x",
        "/null/x", "/foo/99999999999999999999", "/foo/1_0", "//",
    ],
)  # fmt: skip
def test_what_is_not_there_is_missing(pointer):
    assert found(DOCUMENT, pointer) is MISSING
