"""Conditional requests, row by row of RFC 9110 section 13."""

import calendar
from datetime import UTC, datetime
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.http.conditions import Outcome, etag_of, evaluate, parse_date, range_applies

ETAG = '"v1"'
MODIFIED = 784111777  # Sun, 06 Nov 1994 08:49:37 GMT
SAME = "Sun, 06 Nov 1994 08:49:37 GMT"
EARLIER = "Sun, 06 Nov 1994 08:49:36 GMT"
LATER = "Sun, 06 Nov 1994 08:49:38 GMT"
GO, SAVED, FAILED = Outcome.PROCEED, Outcome.NOT_MODIFIED, Outcome.PRECONDITION_FAILED


def fields(*pairs: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(pairs))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('"v1"', GO),
        ("*", GO),
        (' "v0" ,\t"v1"', GO),
        (',, "v1",,', GO),
        ('"a,b","v1"', GO),
        ('W/"v1"', FAILED),
        ('"v2"', FAILED),
        ('"V1"', FAILED),
        ("v1", FAILED),
        ("", FAILED),
        ('"v1" "v2"', FAILED),
        ('"v1", *', FAILED),
        ('"x, "v1", y"', FAILED),
        ('"v1', FAILED),
    ],
)
def test_if_match_compares_strongly(value, expected):
    assert evaluate("GET", fields(("If-Match", value)), ETAG, MODIFIED) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('"v1"', SAVED),
        ('W/"v1"', SAVED),
        ("*", SAVED),
        ('"v0", W/"v1"', SAVED),
        ('"a,b" , "v1"', SAVED),
        ('"v2"', GO),
        ('w/"v1"', GO),
        ('W/ "v1"', GO),
        ("v1", GO),
        ("'v1'", GO),
        ("", GO),
        ('"v1" junk', GO),
    ],
)
def test_if_none_match_compares_weakly(value, expected):
    assert evaluate("GET", fields(("If-None-Match", value)), ETAG, MODIFIED) is expected


@pytest.mark.parametrize(
    "etag", ['"a,b"', '"a, b"'.replace(" ", ""), '"!#$%&\'()*+,-./:;<=>?@[\\]^`{|}~"', '""']
)
def test_a_tag_may_hold_any_etagc(etag):
    listed = f'"x",{etag} , "y"'

    assert evaluate("GET", fields(("If-None-Match", listed)), etag, MODIFIED) is SAVED
    assert evaluate("GET", fields(("If-Match", listed)), etag, MODIFIED) is GO


def test_a_part_of_a_tag_is_no_tag():
    assert evaluate("GET", fields(("If-None-Match", '"a,"b",c"')), '"b"', MODIFIED) is GO


def test_several_lines_are_one_list():
    headers = fields(("If-None-Match", '"v0"'), ("if-none-match", '"v1"'))

    assert evaluate("GET", headers, ETAG, MODIFIED) is SAVED


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("If-Modified-Since", EARLIER, GO),
        ("If-Modified-Since", SAME, SAVED),
        ("If-Modified-Since", LATER, SAVED),
        ("If-Modified-Since", "Sunday, 06-Nov-94 08:49:37 GMT", SAVED),
        ("If-Modified-Since", "Sun Nov  6 08:49:37 1994", SAVED),
        ("If-Modified-Since", "yesterday", GO),
        ("If-Modified-Since", "784111777", GO),
        ("If-Modified-Since", "", GO),
        ("If-Unmodified-Since", EARLIER, FAILED),
        ("If-Unmodified-Since", SAME, GO),
        ("If-Unmodified-Since", LATER, GO),
        ("If-Unmodified-Since", "yesterday", GO),
        ("If-Unmodified-Since", f"{EARLIER}, {EARLIER}", GO),
    ],
)
def test_dates_are_compared_and_ignored_if_malformed(name, value, expected):
    assert evaluate("GET", fields((name, value)), ETAG, MODIFIED) is expected


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([("If-Match", ETAG), ("If-Unmodified-Since", EARLIER)], GO),
        ([("If-Match", '"v2"'), ("If-Unmodified-Since", LATER)], FAILED),
        ([("If-Match", '"v2"'), ("If-None-Match", ETAG)], FAILED),
        ([("If-Match", ETAG), ("If-None-Match", ETAG)], SAVED),
        ([("If-Unmodified-Since", EARLIER), ("If-None-Match", ETAG)], FAILED),
        ([("If-Unmodified-Since", LATER), ("If-Modified-Since", LATER)], SAVED),
        ([("If-None-Match", '"v2"'), ("If-Modified-Since", LATER)], GO),
        ([("If-None-Match", ETAG), ("If-Modified-Since", EARLIER)], SAVED),
        ([("If-None-Match", "junk"), ("If-Modified-Since", LATER)], GO),
        ([], GO),
    ],
)
def test_the_precedence_is_that_of_section_13_2_2(pairs, expected):
    assert evaluate("GET", fields(*pairs), ETAG, MODIFIED) is expected


def test_only_reads_are_not_modified():
    held, since = fields(("If-None-Match", ETAG)), fields(("If-Modified-Since", LATER))

    assert evaluate("HEAD", held, ETAG, MODIFIED) is SAVED
    assert evaluate("HEAD", since, ETAG, MODIFIED) is SAVED
    assert evaluate("POST", held, ETAG, MODIFIED) is FAILED
    assert evaluate("POST", since, ETAG, MODIFIED) is GO


@pytest.mark.parametrize(
    ("value", "applies"),
    [
        (ETAG, True),
        ('"v2"', False),
        ('W/"v1"', False),
        ('"v1", "v2"', False),
        ("*", False),
        ("v1", False),
        ("", False),
        (SAME, True),
        ("Sunday, 06-Nov-94 08:49:37 GMT", True),
        (EARLIER, False),
        (LATER, False),
        ("junk", False),
    ],
)
def test_if_range_names_exactly_this_version(value, applies):
    assert range_applies(fields(("If-Range", value)), ETAG, MODIFIED, MODIFIED + 60) is applies


def test_a_range_without_if_range_applies():
    assert range_applies(fields(), ETAG, MODIFIED, MODIFIED)


def test_a_weak_tag_of_ours_never_matches_strongly():
    assert not range_applies(fields(("If-Range", 'W/"v1"')), 'W/"v1"', MODIFIED, MODIFIED + 60)


def test_a_date_is_weak_while_its_second_lasts():
    """RFC 9110 section 8.8.2.2: the file may change again and keep its Last-Modified."""
    headers = fields(("If-Range", SAME))

    assert not range_applies(headers, ETAG, MODIFIED, MODIFIED)
    assert range_applies(headers, ETAG, MODIFIED, MODIFIED + 1)


@pytest.mark.parametrize(
    "text",
    [
        SAME,
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Mon, 06 Nov 1994 08:49:37 GMT",  # the wrong weekday is not the server's to judge
    ],
)
def test_the_three_forms_of_a_date_are_one_moment(text):
    assert parse_date(text) == MODIFIED


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 nov 1994 08:49:37 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:00 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, ٠٦ Nov 1994 08:49:37 GMT",
        "1994-11-06T08:49:37Z",
        " " + SAME,
    ],
)
def test_other_texts_are_no_dates(text):
    assert parse_date(text) is None


def test_two_digits_are_a_year_at_most_fifty_ahead():
    now = datetime.now(UTC).year
    for offset in (-49, 0, 50):
        year = now + offset
        moment = calendar.timegm((year, 1, 1, 0, 0, 0))

        assert parse_date(f"Monday, 01-Jan-{year % 100:02} 00:00:00 GMT") == moment


def test_a_leap_second_is_the_next_minute():
    assert parse_date("Sat, 31 Dec 2016 23:59:60 GMT") == calendar.timegm((2017, 1, 1, 0, 0, 0))


@given(st.integers(-62_135_596_800, 253_402_300_799))
def test_every_date_we_send_is_read_back(moment):
    assert parse_date(formatdate(moment, usegmt=True)) == moment


@given(st.text(), st.text(), st.sampled_from(["GET", "HEAD", "POST"]))
def test_no_text_is_an_error(one, other, method):
    for name in ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"):
        assert evaluate(method, fields((name, one), (name, other)), ETAG, MODIFIED) in Outcome
    assert range_applies(fields(("If-Range", one)), ETAG, MODIFIED, MODIFIED + 9) in (True, False)


def test_a_plain_version_is_its_own_tag():
    assert etag_of("6.1a-2f") == '"6.1a-2f"'


@given(st.text(), st.text())
def test_tags_are_legal_and_as_different_as_versions(one, other):
    tag = etag_of(one)

    assert (tag == etag_of(other)) == (one == other)
    assert evaluate("GET", fields(("If-None-Match", tag)), tag, MODIFIED) is SAVED
    assert tag.isascii()
    assert tag.isprintable()
    assert len(tag) <= 130
