"""The bytes of a small answer."""

import pytest
from aiohttp import HttpVersion, web
from aiohttp.test_utils import make_mocked_request

from gateway.http.answers import Answer
from gateway.http.context import EXCHANGE, Exchange


def asked(method: str = "GET", version: tuple[int, int] = (1, 1), **headers: str) -> web.Request:
    request = make_mocked_request(method, "/", headers, version=HttpVersion(*version))
    request[EXCHANGE] = Exchange(request.headers)
    return request


def split(data: bytes) -> tuple[str, dict[str, str], bytes]:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return first, dict(line.split(": ", 1) for line in lines), body


def test_the_head_is_complete() -> None:
    data = Answer(200, b"{}", {"Content-Type": "text/x"}).written(asked(), is_last=False)

    first, headers, body = split(data)

    assert (first, body) == ("HTTP/1.1 200 OK", b"{}")
    assert headers.pop("Date").endswith(" GMT")
    assert len(headers.pop("X-Request-ID")) == 32
    assert headers == {
        "Content-Type": "text/x",
        "Content-Length": "2",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-cache",
        "Referrer-Policy": "no-referrer",
        "Server": "workspace-gateway",
    }


@pytest.mark.parametrize(
    ("method", "status", "body", "length", "sent"),
    [
        ("GET", 200, b"", "0", b""),
        ("GET", 404, b"no", "2", b"no"),
        ("HEAD", 404, b"no", "2", b""),
        ("HEAD", 200, b"", None, b""),
        ("GET", 304, b"", None, b""),
        ("PUT", 204, b"", None, b""),
    ],
)
def test_length_and_body_are_what_the_method_and_the_status_allow(
    method: str, status: int, body: bytes, length: str | None, sent: bytes
) -> None:
    data = Answer(status, body).written(asked(method), is_last=False)

    _, headers, rest = split(data)

    assert (headers.get("Content-Length"), rest) == (length, sent)


@pytest.mark.parametrize(
    ("version", "asked_for", "is_last", "told"),
    [
        ((1, 1), None, False, None),
        ((1, 1), "close", False, "close"),
        ((1, 1), None, True, "close"),
        ((1, 0), None, False, None),
        ((1, 0), "keep-alive", False, "keep-alive"),
        ((1, 0), "keep-alive", True, "close"),
    ],
)
def test_it_is_told_whether_the_connection_lives_on(
    version: tuple[int, int], asked_for: str | None, is_last: bool, told: str | None
) -> None:
    request = asked(version=version)
    request._message = request._message._replace(
        should_close=asked_for == "close" or (version == (1, 0) and asked_for is None)
    )
    answer = Answer(200)

    first, headers, _ = split(answer.written(request, is_last=is_last))

    assert first == f"HTTP/{version[0]}.{version[1]} 200 OK"
    assert headers.get("Connection") == told
    assert answer.keep_alive is (told == "keep-alive" or (version == (1, 1) and told is None))


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nX: y", "a\r", "a\0"])
def test_no_header_becomes_two(value: str) -> None:
    with pytest.raises(ValueError, match="one line"):
        Answer(200, headers={"ETag": value}).written(asked(), is_last=False)


@pytest.mark.parametrize(("asked_in", "answered_in"), [((0, 9), "1.0"), ((2, 0), "1.1")])
def test_an_answer_has_a_version_that_is_spoken(
    asked_in: tuple[int, int], answered_in: str
) -> None:
    first, _, _ = split(Answer(505).written(asked(version=asked_in), is_last=False))

    assert first == f"HTTP/{answered_in} 505 HTTP Version Not Supported"
