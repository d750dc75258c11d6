"""Ranges: what a header asks for, and what is never done for it."""

import time
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.http.ranges import MOST_RANGES, ByteRange, Multipart, Unsatisfiable, parse_range


def spans(header: str | None, size: int) -> list[tuple[int, int]] | None:
    ranges = parse_range(header, size)
    return None if ranges is None else [(part.first, part.last) for part in ranges]


@pytest.mark.parametrize(
    ("header", "size", "expected"),
    [
        ("bytes=0-499", 10_000, [(0, 499)]),
        ("bytes=500-999", 10_000, [(500, 999)]),
        ("bytes=-500", 10_000, [(9500, 9999)]),
        ("bytes=9500-", 10_000, [(9500, 9999)]),
        ("bytes=0-0,-1", 10_000, [(0, 0), (9999, 9999)]),
        ("bytes= 0-999, 4500-5499, -1000", 10_000, [(0, 999), (4500, 5499), (9000, 9999)]),
        ("bytes=500-600,601-999", 10_000, [(500, 600), (601, 999)]),
        ("bytes=500-700,601-999", 10_000, [(500, 700), (601, 999)]),
    ],
)
def test_the_examples_of_rfc_9110_section_14_1_2(header, size, expected):
    assert spans(header, size) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-", [(0, 9)]),
        ("bytes=9-9", [(9, 9)]),
        ("bytes=5-10", [(5, 9)]),
        ("bytes=-10", [(0, 9)]),
        ("bytes=-11", [(0, 9)]),
        ("bytes=000000000000000000000000001-000000000000000000000000002", [(1, 2)]),
        ("bytes=0-99999999999999999999", [(0, 9)]),
        (f"bytes=1-{'9' * 8000}", [(1, 9)]),
        (f"bytes=-{'9' * 8000}", [(0, 9)]),
        ("BYTES=1-2", [(1, 2)]),
        ("  bytes=1-2\t", [(1, 2)]),
        ("bytes=\t1-2 ,\t, 4-5,", [(1, 2), (4, 5)]),
        ("bytes=8-9,0-1", [(8, 9), (0, 1)]),
        ("bytes=10-,1-2", [(1, 2)]),
        ("bytes=-0,1-2", [(1, 2)]),
    ],
)
def test_ten_bytes_are_cut_as_asked(header, expected):
    assert spans(header, 10) == expected


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=--1",
        "bytes=1",
        "bytes=a-b",
        "bytes=1-2-3",
        "bytes=1 -2",
        "bytes=1- 2",
        "bytes=+1-2",
        "bytes=1_0-20",
        "bytes=0x1-2",
        "bytes=١-٢",
        "bytes=1-2;3-4",
        "bytes=2-1",
        "bytes=0-1,5-4",
        "bytes=0-1,junk",
        "bytes =0-1",
        "bytes:0-1",
        "bytes=bytes=0-1",
        "items=0-5",
        "seconds=1-2",
        "none",
    ],
)
def test_what_is_no_byte_range_is_ignored(header):
    assert parse_range(header, 10) is None


@pytest.mark.parametrize(
    "header", ["bytes=10-", "bytes=10-20,11-", "bytes=-0", f"bytes={'9' * 8000}-"]
)
def test_a_range_behind_the_end_cannot_be_satisfied(header):
    with pytest.raises(Unsatisfiable) as caught:
        parse_range(header, 10)

    assert caught.value.size == 10


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=-0", "bytes=5-9,0-"])
def test_an_empty_file_has_no_first_byte(header):
    with pytest.raises(Unsatisfiable):
        parse_range(header, 0)


@pytest.mark.parametrize("header", ["bytes=-1", "bytes=0-,-5"])
def test_the_last_bytes_of_an_empty_file_are_the_whole_of_it(header):
    """RFC 9110 section 14.1.2 calls the suffix satisfiable, and no 206 can carry nothing."""
    assert parse_range(header, 0) is None


@pytest.mark.parametrize(
    "header",
    [
        "bytes=0-,0-",
        "bytes=0-9,-1",
        "bytes=0-5,1-2,2-3",
        "bytes=" + ",".join(f"{first}-" for first in range(10)),
        "bytes=" + ",".join(["0-0"] * 3),
    ],
)
def test_more_bytes_than_the_file_or_many_overlaps_get_the_whole_file(header):
    """CVE-2011-3192."""
    assert parse_range(header, 10) is None


def test_too_many_ranges_get_the_whole_file():
    listed = [f"{3 * n}-{3 * n}" for n in range(MOST_RANGES + 1)]

    assert len(parse_range("bytes=" + ",".join(listed[:-1]), 1000) or ()) == MOST_RANGES
    assert parse_range("bytes=" + ",".join(listed), 1000) is None
    assert parse_range("bytes=0-1" + "," * MOST_RANGES, 1000) is None


def test_a_long_header_is_judged_at_once():
    started = time.process_time()

    for text in ("1" * 8000, "0" * 8000 + "-", "1-2," * 2000, "-" * 8000, " " * 8000):
        try:
            parse_range(f"bytes={text}", 10)
        except Unsatisfiable:
            continue

    assert time.process_time() - started < 0.1


HEADERS = st.one_of(
    st.text(),
    st.text("0123456789-, \t", max_size=60).map("bytes=".__add__),
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 40)).map("{0[0]}-{0[1]}".format)
        | st.integers(0, 40).map("-{}".format)
        | st.integers(0, 40).map("{}-".format),
        max_size=6,
    ).map(lambda specs: "bytes=" + ",".join(specs)),
)


@given(HEADERS, st.integers(0, 50))
@example("bytes=²-", 5)
def test_every_header_is_ignored_refused_or_within_the_file(header, size):
    try:
        ranges = parse_range(header, size)
    except Unsatisfiable:
        return

    assert ranges is None or 0 < len(ranges) <= MOST_RANGES
    for part in ranges or ():
        assert 0 <= part.first <= part.last < size
    assert sum(part.length for part in ranges or ()) <= size


@given(
    st.binary(min_size=1, max_size=99),
    st.lists(st.tuples(st.integers(0, 98), st.integers(0, 98)), max_size=5),
)
def test_the_length_is_that_of_the_joined_bytes(data, pairs):
    ranges = [ByteRange(min(pair), max(pair)) for pair in pairs if max(pair) < len(data)]
    body = Multipart(ranges, len(data), "text/plain; charset=utf-8")

    pieces = [head + data[part.first : part.last + 1] for head, part in body.parts()]

    assert len(b"".join(pieces) + body.tail) == body.length


def test_a_multipart_body_is_as_rfc_9110_section_14_6_shows_it():
    body = Multipart([ByteRange(1, 2), ByteRange(7, 7)], 10, "text/csv", "SEP")

    joined = b"".join(
        head + b"0123456789"[part.first : part.last + 1] for head, part in body.parts()
    )

    assert body.content_type == "multipart/byteranges; boundary=SEP"
    assert joined + body.tail == (
        b"--SEP\r\nContent-Type: text/csv\r\nContent-Range: bytes 1-2/10\r\n\r\n12\r\n"
        b"--SEP\r\nContent-Type: text/csv\r\nContent-Range: bytes 7-7/10\r\n\r\n7\r\n"
        b"--SEP--\r\n"
    )


def test_a_boundary_cannot_be_guessed():
    first, second = (Multipart([], 0, "text/csv").boundary for _ in range(2))

    assert first != second
    assert len(first) == 32


def test_a_range_is_a_value():
    part = ByteRange(2, 4)

    assert part.length == 3
    assert part.content_range(10) == "bytes 2-4/10"
    with pytest.raises(FrozenInstanceError):
        part.first = 0  # type: ignore[misc]  # what is tested
