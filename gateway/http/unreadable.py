"""What is answered to bytes that are no request, and to what aiohttp itself fails at."""

import structlog
from aiohttp import HttpVersion10, web
from aiohttp.http import RawRequestMessage
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from gateway.http.answers import Answer
from gateway.http.context import EXCHANGE, UNMATCHED
from gateway.http.errors import error_body, error_response
from gateway.telemetry import metrics
from gateway.telemetry.correlation import REQUEST_ID

log = structlog.get_logger()

UNREADABLE = RawRequestMessage(
    method="UNKNOWN",
    path="/",
    version=HttpVersion10,
    headers=CIMultiDictProxy(CIMultiDict()),
    raw_headers=(),
    should_close=True,
    compression=None,
    upgrade=False,
    chunked=False,
    url=URL("/"),
)
"""Stands for a request that could not be parsed."""


def refusal(request: web.BaseRequest, error: Exception) -> Answer:
    """The answer to what could not be parsed; a key may stand in it, so it is not told."""
    REQUEST_ID.set(request[EXCHANGE].request_id)
    log.info("request_malformed", error=type(error).__name__)
    return _last_answer(error_response(400, error_body("malformed request")))


def failure(error: Exception) -> Answer:
    """The answer where aiohttp, or our own code around the handlers, fails."""
    log.error("request_failed", error=type(error).__name__)
    return _last_answer(error_response(500, error_body("internal error")))


def _last_answer(answer: Answer) -> Answer:
    metrics.REQUESTS.labels(UNMATCHED, "other", answer.status).inc()
    answer.keep_alive = False
    return answer
