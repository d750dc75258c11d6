"""The head that all answers share, and small answers, which are written in one go."""

from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from time import time

from aiohttp import HttpVersion11, web

from gateway.http.context import EXCHANGE

COMMON_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "private, no-cache",
    "Referrer-Policy": "no-referrer",
    "Server": "workspace-gateway",
}
_COMMON = "".join(f"{name}: {value}\r\n" for name, value in COMMON_HEADERS.items())
_STATUSES = {status.value: f"{status.value} {status.phrase}\r\n" for status in HTTPStatus}
_BODILESS = (204, 304)


class Answer:
    """An answer whose *body* is at hand; for HEAD only its length is told."""

    __slots__ = ("body", "headers", "keep_alive", "status")

    def __init__(
        self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> None:
        self.status = status
        self.body = body
        self.headers = headers or {}
        self.keep_alive: bool | None = None  # whether the connection lives on; None: if it can

    def written(self, request: web.BaseRequest, *, is_last: bool) -> bytes:
        """The bytes that answer *request*; *is_last* if the connection is to end with them.

        Raises `ValueError` if a header would be more than one line.
        """
        body, version = self.body, request.version
        if self.keep_alive is None:
            self.keep_alive = request.keep_alive and not is_last
        lines = [f"{name}: {value}\r\n" for name, value in self.headers.items()]
        if self.status not in _BODILESS and (body or request.method != "HEAD"):
            lines.append(f"Content-Length: {len(body)}\r\n")
        if is_last or self.keep_alive != (version >= HttpVersion11):
            lines.append(f"Connection: {'keep-alive' if self.keep_alive else 'close'}\r\n")
        lines.append(f"X-Request-ID: {request[EXCHANGE].request_id}\r\n")
        own = "".join(lines)
        if not own.count("\r") == own.count("\n") == len(lines) or "\0" in own:
            raise ValueError("a header must be one line")
        head = (
            f"HTTP/{version.major}.{version.minor} {_STATUSES[self.status]}"
            f"{own}{_COMMON}Date: {http_date(int(time()))}\r\n\r\n"
        ).encode()
        return head if request.method == "HEAD" or self.status in _BODILESS else head + body


Response = Answer | web.StreamResponse
"""What a handler returns: an answer, or one that it has begun and sent by itself."""


@lru_cache(4096)
def http_date(seconds: int) -> str:
    """A second since 1970 as headers have it (RFC 9110 section 5.6.7)."""
    return formatdate(seconds, usegmt=True)
