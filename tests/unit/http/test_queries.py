"""Query parameters, from their raw bytes."""

from collections.abc import Callable

import pytest
from aiohttp.test_utils import make_mocked_request

from gateway.domain.errors import BadParameter
from gateway.http.queries import Query


def query(raw: str) -> Query:
    return Query.of(make_mocked_request("GET", f"/?{raw}"))


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("", None),
        ("other=1", None),
        ("path", b""),
        ("path=", b""),
        ("path=a", b"a"),
        ("path=a=b", b"a=b"),
        ("path=a+b", b"a b"),
        ("path=a%2Bb", b"a+b"),
        ("path=a%20b%26c", b"a b&c"),
        ("path=%252e", b"%2e"),
        ("path=%ff%00", b"\xff\x00"),
        ("p%61th=a", b"a"),
        ("PATH=a", None),
        ("&&path=a&", b"a"),
        ("path=a;b", b"a;b"),
    ],
)
def test_a_value_is_decoded_once(raw: str, value: bytes | None) -> None:
    assert query(raw).raw("path") == value


@pytest.mark.parametrize("raw", ["a=1&a=1", "a=1&a=2", "a&%61=2"])
@pytest.mark.parametrize("read", [Query.raw, Query.text, Query.boolean])
def test_a_parameter_that_stands_twice_is_refused(
    raw: str, read: Callable[[Query, str], object]
) -> None:
    """A proxy and the gateway could take different ones."""
    with pytest.raises(BadParameter, match="a: given more than once"):
        read(query(raw), "a")


def test_repeatable_parameters_keep_their_order() -> None:
    assert query("x=b&y=1&x=a&x=%C3%A4").texts("x") == ["b", "a", "ä"]
    assert query("").texts("x") == []


@pytest.mark.parametrize("read", [Query.text, Query.texts])
def test_text_must_be_utf8(read: Callable[[Query, str], object]) -> None:
    with pytest.raises(BadParameter, match="a: not valid UTF-8"):
        read(query("a=%ff"), "a")


@pytest.mark.parametrize(
    ("raw", "value"),
    [("", False), ("a=true", True), ("a=1", True), ("a=false", False), ("a=0", False)],
)
def test_booleans(raw: str, value: bool) -> None:
    assert query(raw).boolean("a") is value


@pytest.mark.parametrize("raw", ["a", "a=", "a=True", "a=yes", "a=2", "a=true%20", "a=%ff"])
def test_what_is_no_boolean_is_refused(raw: str) -> None:
    with pytest.raises(BadParameter, match="a: "):
        query(raw).boolean("a")


@pytest.mark.parametrize(("raw", "value"), [("", None), ("n=1", 1), ("n=010", 10), ("n=99", 99)])
def test_numbers(raw: str, value: int | None) -> None:
    assert query(raw).number("n", 1, 99) == value


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("n=0", "from 1 to 99"),
        ("n=100", "from 1 to 99"),
        ("n=", "whole number"),
        ("n=-1", "whole number"),
        ("n=%2B1", "whole number"),
        ("n=1.0", "whole number"),
        ("n=1e1", "whole number"),
        ("n=1_0", "whole number"),
        ("n=+1", "whole number"),
        ("n=%D9%A1", "whole number"),
        ("n=%C2%B2", "whole number"),
        ("n=" + "9" * 19, "whole number"),
        ("n=" + "9" * 5000, "whole number"),
    ],
)
def test_what_is_no_number_in_range_is_refused(raw: str, message: str) -> None:
    """Python's int() would take most of these; 5000 digits would make it raise."""
    with pytest.raises(BadParameter, match=message):
        query(raw).number("n", 1, 99)
