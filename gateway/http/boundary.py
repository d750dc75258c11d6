"""Around every request: its id, its errors, its log line and its metrics."""

import asyncio
from time import monotonic
from typing import cast

import structlog
from aiohttp import HttpVersion10, HttpVersion11, web

from gateway.domain.errors import (
    ArchiveFailed,
    CredentialsRejected,
    GatewayError,
    Outage,
    StreamBroken,
    TooManyRequests,
    Unavailable,
)
from gateway.http.answers import Answer, Response
from gateway.http.connection import Connection
from gateway.http.context import EXCHANGE, VARIABLES, Exchange
from gateway.http.dialects.base import Dialect
from gateway.http.errors import VersionNotSupported, error_response, headers_of, status_of
from gateway.http.site import Site
from gateway.telemetry import metrics
from gateway.telemetry.correlation import REQUEST_ID, TRACEPARENT

log = structlog.get_logger()

_VERSIONS = (HttpVersion10, HttpVersion11)
_FAILURES = (Outage, ArchiveFailed)  # nobody's who asked
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


async def boundary(site: Site, request: web.BaseRequest) -> Response:
    """Serve one request; whatever is raised becomes the dialect's error or a broken connection."""
    exchange = request[EXCHANGE]
    place, variables = site.find(request.rel_url.path_safe)
    request[VARIABLES] = variables
    exchange.route, exchange.dialect = place.name, place.dialect.name
    REQUEST_ID.set(exchange.request_id)
    TRACEPARENT.set(exchange.traceparent)
    metrics.IN_FLIGHT.change(1)
    response: Response | None = None
    try:
        if request.version not in _VERSIONS:
            raise VersionNotSupported("this version of HTTP is not spoken here")
        if request.headers.get("Expect"):
            _meet_expectation(request)
        response = await place.answer(request)
    except asyncio.CancelledError:
        exchange.outcome = "broken" if _connection(request).is_aborted else "client_left"
        raise
    except ConnectionError:
        # Executors translate their own; this one is the client's, who left or was too slow.
        exchange.outcome = "client_left"
        if exchange.first_byte_at is not None:
            _connection(request).abort()
        raise
    except Exception as exc:  # noqa: BLE001  # none is lost: it is answered or logged
        response = _failed(request, exc, place.dialect, exchange)
    finally:
        metrics.IN_FLIGHT.change(-1)
        _report(request, response, exchange)
    return response


def _meet_expectation(request: web.BaseRequest) -> None:
    if request.version < HttpVersion11:
        return  # RFC 9110 section 10.1.1
    if request.headers["Expect"].lower() != "100-continue":
        raise web.HTTPExpectationFailed
    if request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def _failed(
    request: web.BaseRequest, failure: Exception, dialect: Dialect, exchange: Exchange
) -> Answer:
    """The answer to *failure*; break the connection if another has begun."""
    begun = exchange.first_byte_at is not None
    match failure:
        case web.HTTPException():  # 404, 405, 417
            exchange.outcome = "refused"
            allow = {"Allow": failure.headers["Allow"]} if "Allow" in failure.headers else None
            return error_response(failure.status, dialect.error_body(failure.reason.lower()), allow)
        case GatewayError() if not begun:
            return _refusal(failure, dialect, exchange)
        case StreamBroken() if not begun:
            unreadable = Unavailable("the file changed while it was read")
            return _refusal(unreadable, dialect, exchange)
        case GatewayError() | StreamBroken():
            pass
        case _:
            log.error("request_failed", exc_info=failure)
            if not begun:
                exchange.outcome = "error"
                return error_response(500, dialect.error_body("internal error"))
    exchange.outcome = "broken"
    log.warning("stream_broken", reason=str(failure))
    _connection(request).abort()
    raise ConnectionResetError("the body could not be completed") from failure


def _refusal(error: GatewayError, dialect: Dialect, exchange: Exchange) -> Answer:
    if isinstance(error, CredentialsRejected):
        metrics.AUTH_FAILURES.labels(error.reason).inc()
        log.info("credentials_rejected", reason=error.reason)
    elif isinstance(error, TooManyRequests):
        metrics.THROTTLED.labels(error.limit).inc()
    headers = headers_of(error)
    if isinstance(error, _FAILURES):
        log.warning("no_answer", reason=error.message, cause=repr(error.__cause__))
        exchange.outcome = "error"
    else:
        exchange.outcome = "refused"
        source, fallback = error.source or exchange.executor, error.fallback or exchange.fallback
        if source is not None:
            headers |= exchange.served_by(source, fallback)
    status = status_of(error, dialect.statuses)
    return error_response(status, dialect.error_body(dialect.message(error)), headers)


def _connection(request: web.BaseRequest) -> Connection:
    return cast(Connection, request.protocol)


def _report(request: web.BaseRequest, response: Response | None, exchange: Exchange) -> None:
    if response is not None:
        exchange.status = response.status
    if isinstance(response, Answer) and request.method != "HEAD":
        exchange.bytes_sent = len(response.body)
    now = monotonic()
    duration = now - exchange.started_at
    first_byte_at = exchange.first_byte_at
    first_byte = duration if first_byte_at is None else first_byte_at - exchange.started_at
    method = request.method if request.method in _METHODS else "other"
    metrics.of_route(exchange.route).count(
        method, exchange.status, duration, first_byte, exchange.bytes_sent
    )
    line = {
        "trace_id": exchange.trace_id,
        "method": method,
        "route": exchange.route,
        "status": exchange.status,
        "duration_ms": round(duration * 1000, 3),
        "ttfb_ms": round(first_byte * 1000, 3),
        "bytes_sent": exchange.bytes_sent,
        "dialect": exchange.dialect,
        "key_id": exchange.key_id,
        "org": exchange.org,
        "session_id": exchange.session_id,
        "executor": exchange.executor,
        "fallback": exchange.fallback,
        "outcome": exchange.outcome,
    }
    if exchange.link_id is not None:
        line["link_id"] = exchange.link_id
    if exchange.archive is not None:
        line |= exchange.archive
    log.info("http_request", **line)
