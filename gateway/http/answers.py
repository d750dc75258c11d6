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
_STARTS = {one.value: f"{one.value} {one.phrase}\r\n{_COMMON}" for one in HTTPStatus}
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
        body, headers, has_11 = self.body, self.headers, request.version >= HttpVersion11
        if not "".join(headers.values()).isprintable():
            raise ValueError("a header must be one line")
        own = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        if self.keep_alive is None:
            self.keep_alive = request.keep_alive and not is_last
        if is_last or self.keep_alive != has_11:
            own += f"Connection: {'keep-alive' if self.keep_alive else 'close'}\r\n"
        bodiless = request.method == "HEAD" or self.status in _BODILESS
        if body or not bodiless:
            own += f"Content-Length: {len(body)}\r\n"
        own += f"X-Request-ID: {request[EXCHANGE].request_id}\r\nDate: {http_date(int(time()))}"
        # Never a version that is not spoken here (RFC 9110 section 6.2).
        head = f"HTTP/1.{has_11:d} {_STARTS[self.status]}{own}\r\n\r\n".encode()
        return head if bodiless else head + body


Response = Answer | web.StreamResponse
"""What a handler returns: an answer, or one that it has begun and sent by itself."""


@lru_cache(4096)
def http_date(seconds: int) -> str:
    """A second since 1970 as headers have it (RFC 9110 section 5.6.7)."""
    return formatdate(seconds, usegmt=True)
