"""File names of every kind in one header line that other people's parsers read back."""

from email.message import Message
from email.utils import collapse_rfc2231_value

import pytest
from aiohttp.multipart import content_disposition_filename, parse_content_disposition
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.http.disposition import attachment, neutral


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("plans.pdf", 'attachment; filename="plans.pdf"'),
        ("annual plan.pdf", 'attachment; filename="annual plan.pdf"'),
        ("a=b,c'd(e).txt", 'attachment; filename="a=b,c\'d(e).txt"'),
        ("a;b;c", "attachment; filename=\"a_b_c\"; filename*=UTF-8''a%3Bb%3Bc"),
        ("/path/to/plans.pdf", 'attachment; filename="_path_to_plans.pdf"'),
        ("C:\\path\\plans.pdf", 'attachment; filename="C:_path_plans.pdf"'),
        ('a "b".pdf', "attachment; filename=\"a _b_.pdf\"; filename*=UTF-8''a%20%22b%22.pdf"),
        (
            "«plans».pdf",
            "attachment; filename=\"_plans_.pdf\"; filename*=UTF-8''%C2%ABplans%C2%BB.pdf",
        ),
        ("foo-ä.html", "attachment; filename=\"foo-_.html\"; filename*=UTF-8''foo-%C3%A4.html"),
        (
            "€ rates.pdf",
            "attachment; filename=\"_ rates.pdf\"; filename*=UTF-8''%E2%82%AC%20rates.pdf",
        ),
        (
            "€'*%().pdf",
            "attachment; filename=\"_'*_().pdf\"; filename*=UTF-8''%E2%82%AC%27%2A%25%28%29.pdf",
        ),
        (
            "the%20plans.pdf",
            "attachment; filename=\"the_20plans.pdf\"; filename*=UTF-8''the%2520plans.pdf",
        ),
        ("😀.data", "attachment; filename=\"_.data\"; filename*=UTF-8''%F0%9F%98%80.data"),
        ("\ue000", "attachment; filename=\"_\"; filename*=UTF-8''%EE%80%80"),
        ("new\nline.csv", 'attachment; filename="new_line.csv"'),
        ("a\r\nSet-Cookie: x=y", 'attachment; filename="a__Set-Cookie: x=y"'),
        ("nul\0", 'attachment; filename="nul_"'),
        ("c1\x85", 'attachment; filename="c1_"'),
        ("txt.\u202egpj.exe", 'attachment; filename="txt._gpj.exe"'),
        ("a\u2066b\u2069c\u200fd\u061ce", 'attachment; filename="a_b_c_d_e"'),
        ("a\u2028b", 'attachment; filename="a_b"'),
        ("lone\ud800", 'attachment; filename="lone_"'),
        ("", 'attachment; filename="download"'),
        (".", 'attachment; filename="download"'),
        ("..", 'attachment; filename="download"'),
        ("...", 'attachment; filename="..."'),
        (".env", 'attachment; filename=".env"'),
    ],
)
def test_a_name_has_its_line(name, line):
    assert attachment(name) == line


def test_a_name_of_255_bytes_is_kept_whole():
    ascii_name, wide_name = "x" * 255, "日" * 85

    assert attachment(ascii_name) == f'attachment; filename="{ascii_name}"'
    assert attachment(wide_name).endswith("UTF-8''" + "%E6%97%A5" * 85)


NAMES = st.one_of(
    st.text(st.characters(exclude_categories=[])),
    st.text("ab\"%'\\/;=*\n\r\0\u202eé日😀 ", max_size=20),
)


@given(NAMES)
@example(" lead ")
@example("a=?utf-8?q?x?=.txt")
@example("utf-8''%41")
def test_any_name_is_one_line_that_parsers_read_back(name):
    line = attachment(name)
    message = Message()
    message["Content-Disposition"] = line
    parameters = message.get_params(header="Content-Disposition") or []

    assert line.isascii()
    assert line.isprintable()
    assert collapse_rfc2231_value(parameters[-1][1]) == neutral(name)
    kind, others = parse_content_disposition(line)
    assert kind == "attachment"
    assert content_disposition_filename(others) == neutral(name)


@given(NAMES)
def test_a_neutral_name_is_neither_empty_nor_a_path_nor_a_trick(name):
    safe = neutral(name)

    assert safe not in ("", ".", "..")
    assert not set(safe) & set("/\\\n\r\0\x7f\u202a\u202e\u2066\u2069\u2028")
    assert neutral(safe) == safe
    safe.encode()
