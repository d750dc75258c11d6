"""Paths: what is refused, what a name looks like as text, and the order of a listing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.errors import PathRefused
from gateway.domain.paths import WorkspacePath, name_to_text, text_to_name

TRAVERSAL = "invalid path: traversal not allowed"
ABSOLUTE = "invalid path: absolute paths not allowed"
NUL = "invalid path: NUL byte not allowed"
NOT_UTF8 = "invalid path: not valid UTF-8"

NAMES = st.binary(min_size=1, max_size=12).filter(lambda name: not set(b"/\0") & set(name))
PARTS = NAMES.filter(lambda name: name not in (b".", b".."))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"../x", TRAVERSAL),
        (b"..", TRAVERSAL),
        (b"../", TRAVERSAL),
        (b"a/..", TRAVERSAL),
        (b"a/../b", TRAVERSAL),
        (b"./..", TRAVERSAL),
        (b"/..", TRAVERSAL),
        (b"..\\..\\x", TRAVERSAL),
        (b"a\\..\\b", TRAVERSAL),
        (b"a/b\\..", TRAVERSAL),
        (b"/etc/passwd", ABSOLUTE),
        (b"///x", ABSOLUTE),
        (b"/", ABSOLUTE),
        (b"a\0b", NUL),
        (b"\0", NUL),
        (b"..\0", NUL),
        (b"\xc0\xae\xc0\xae/x", NOT_UTF8),
        (b"\xe0\x80\xae", NOT_UTF8),
        (b"\xff", NOT_UTF8),
        (b"\xed\xb2\x80", NOT_UTF8),
        (b"a" * 4096, "invalid path: longer than 4095 bytes"),
    ],
)
def test_refused(raw: bytes, message: str) -> None:
    with pytest.raises(PathRefused) as refused:
        WorkspacePath.parse(raw)

    assert message == refused.value.message


@pytest.mark.parametrize(
    ("raw", "parts"),
    [
        (b"", ()),
        (b".", ()),
        (b"./", ()),
        (b"a/", (b"a",)),
        (b"a//b", (b"a", b"b")),
        (b"a/./b/.", (b"a", b"b")),
        (b"%2e%2e", (b"%2e%2e",)),
        (b"%u002e%u002e/x", (b"%u002e%u002e", b"x")),
        ("．．/x".encode(), ("．．".encode(), b"x")),
        (b"..;/x", (b"..;", b"x")),
        (b"....//x", (b"....", b"x")),
        (b"a..b", (b"a..b",)),
        (b"..a", (b"..a",)),
        (b"a..", (b"a..",)),
        (b"...", (b"...",)),
        (b"-rf", (b"-rf",)),
        (b"a b", (b"a b",)),
        (b"a\\b", (b"a\\b",)),
        (b"a#b?c+d%", (b"a#b?c+d%",)),
        (b"new\nline", (b"new\nline",)),
        ("café".encode(), ("café".encode(),)),
        ("\uefff".encode(), (b"\xff",)),
        (b"a" * 4095, (b"a" * 4095,)),
    ],
)
def test_accepted(raw: bytes, parts: tuple[bytes, ...]) -> None:
    assert parts == WorkspacePath.parse(raw).parts


@given(st.binary(max_size=40))
def test_no_accepted_path_holds_a_traversal(raw: bytes) -> None:
    try:
        path = WorkspacePath.parse(raw)
    except PathRefused:
        return

    for part in path.parts:
        assert part not in (b"", b".", b"..")
        assert b"\0" not in part
        assert b"/" not in part


@given(NAMES)
def test_every_name_has_a_text_that_is_valid_unicode_and_names_it(name: bytes) -> None:
    text = name_to_text(name)

    assert name == text_to_name(text)
    assert text == text.encode().decode()


@given(NAMES, NAMES)
def test_two_names_never_share_a_text(one: bytes, other: bytes) -> None:
    assert (one == other) == (name_to_text(one) == name_to_text(other))


@pytest.mark.parametrize("name", ["\uef80", "\uefff", "a\uef90b", "\uef80é"])
def test_a_name_that_holds_an_escape_has_a_text_of_its_own(name: str) -> None:
    text = name_to_text(name.encode())

    assert text != name
    assert name.encode() == text_to_name(text)


@given(st.lists(PARTS, max_size=4))
def test_a_path_as_it_is_listed_asks_for_itself(parts: list[bytes]) -> None:
    path = WorkspacePath(tuple(parts))

    assert "/" + path.relative == path.rooted
    if ".." not in path.relative.replace("\\", "/").split("/"):
        assert path == WorkspacePath.parse(path.relative.encode())


def test_parents_come_before_children_and_names_compare_as_bytes() -> None:
    ordered = [
        WorkspacePath(parts)
        for parts in [
            (),
            (b"A",),
            (b"a",),
            (b"a", b"z"),
            (b"a.b",),
            (b"\x80",),
            ("é".encode(),),
            ("\U0001f600".encode(),),
            (b"\xff",),
        ]
    ]

    shuffled = [ordered[number * 4 % 9] for number in range(9)]
    assert ordered == sorted(shuffled)


def test_the_longest_path_on_disk_can_be_asked_for_as_it_is_listed() -> None:
    """A byte that is not UTF-8 takes three in the listed text; what counts is the path itself."""
    path = WorkspacePath((b"\xff" * 200,) * 20)

    assert WorkspacePath.parse(path.relative.encode()) == path
