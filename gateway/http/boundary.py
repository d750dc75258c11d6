"""Around every request: its id, its errors, its log line and its metrics."""

import asyncio
from collections.abc import Awaitable, Callable
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
from gateway.http.authn import Endpoint
from gateway.http.connection import Connection
from gateway.http.context import EXCHANGE, Exchange, request_id, traceparent
from gateway.http.dialects.base import NATIVE, Dialect
from gateway.http.errors import VersionNotSupported, error_response, headers_of, status_of
from gateway.telemetry import metrics
from gateway.telemetry.correlation import REQUEST_ID, TRACEPARENT

log = structlog.get_logger()

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_VERSIONS = (HttpVersion10, HttpVersion11)
_FAILURES = (Outage, ArchiveFailed)  # nobody's who asked
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@web.middleware
async def boundary(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Serve one request; whatever is raised becomes the dialect's error or a broken connection."""
    # Dialect routes are served by an Endpoint's method; health, 404 and 405 are not.
    endpoint = getattr(request.match_info.handler, "__self__", None)
    dialect = endpoint.dialect if isinstance(endpoint, Endpoint) else NATIVE
    exchange = Exchange(
        request_id=request_id(request),
        traceparent=traceparent(request),
        started_at=monotonic(),
        route=endpoint.route.name if isinstance(endpoint, Endpoint) else _route(request),
        dialect=dialect.name,
    )
    request[EXCHANGE] = exchange
    REQUEST_ID.set(exchange.request_id)
    TRACEPARENT.set(exchange.traceparent)
    metrics.IN_FLIGHT.change(1)
    try:
        response = await _answer(request, handler, dialect, exchange)
        exchange.status = response.status
        if request.method != "HEAD" and isinstance(response, web.Response):
            exchange.bytes_sent = response.content_length or 0
    except asyncio.CancelledError:
        exchange.outcome = "broken" if _connection(request).is_aborted else "client_left"
        raise
    finally:
        metrics.IN_FLIGHT.change(-1)
        _report(request, exchange)
    return response


async def _answer(
    request: web.Request, handler: Handler, dialect: Dialect, exchange: Exchange
) -> web.StreamResponse:
    failure: Exception
    try:
        if request.version not in _VERSIONS:
            raise VersionNotSupported("this version of HTTP is not spoken here")
        return await handler(request)
    except ConnectionError:
        # Executors translate their own; this one is the client's, who left or was too slow.
        exchange.outcome = "client_left"
        if exchange.first_byte_at is not None:
            _connection(request).abort()
        raise
    except web.HTTPException as exc:
        # 404 is the router's; 405 is its, or an endpoint's.
        exchange.outcome = "refused"
        allow = {"Allow": exc.headers["Allow"]} if "Allow" in exc.headers else None
        return error_response(exc.status, dialect.error_body(exc.reason.lower()), allow)
    except GatewayError as exc:
        if exchange.first_byte_at is None:
            return _refusal(exc, dialect, exchange)
        failure = exc
    except StreamBroken as exc:
        if exchange.first_byte_at is None:
            return _refusal(Unavailable("the file changed while it was read"), dialect, exchange)
        failure = exc
    except Exception as exc:
        log.exception("request_failed")
        exchange.outcome = "error"
        if exchange.first_byte_at is None:
            return error_response(500, dialect.error_body("internal error"))
        failure = exc
    exchange.outcome = "broken"
    log.warning("stream_broken", reason=str(failure))
    _connection(request).abort()
    raise ConnectionResetError("the body could not be completed") from failure


def _refusal(error: GatewayError, dialect: Dialect, exchange: Exchange) -> web.Response:
    if isinstance(error, CredentialsRejected):
        metrics.AUTH_FAILURES.labels(error.reason).inc()
        log.info("credentials_rejected", reason=error.reason)
    elif isinstance(error, TooManyRequests):
        metrics.THROTTLED.labels(error.limit).inc()
    elif isinstance(error, _FAILURES):
        log.warning("no_answer", reason=error.message, cause=repr(error.__cause__))
    status = status_of(error, dialect.statuses)
    exchange.outcome = "error" if isinstance(error, _FAILURES) else "refused"
    return error_response(status, dialect.error_body(dialect.message(error)), headers_of(error))


def _connection(request: web.Request) -> Connection:
    return cast(Connection, request.protocol)


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unmatched"


def _report(request: web.Request, exchange: Exchange) -> None:
    now = monotonic()
    duration = now - exchange.started_at
    first_byte = (exchange.first_byte_at or now) - exchange.started_at
    method = request.method if request.method in _METHODS else "other"
    metrics.of_route(exchange.route).count(
        method, exchange.status, duration, first_byte, exchange.bytes_sent
    )
    log.info(
        "http_request",
        trace_id=exchange.trace_id,
        method=method,
        route=exchange.route,
        status=exchange.status,
        duration_ms=round(duration * 1000, 3),
        ttfb_ms=round(first_byte * 1000, 3),
        bytes_sent=exchange.bytes_sent,
        dialect=exchange.dialect,
        key_id=exchange.key_id,
        org=exchange.org,
        session_id=exchange.session_id,
        executor=exchange.executor,
        fallback=exchange.fallback,
        outcome=exchange.outcome,
        **({} if exchange.link_id is None else {"link_id": exchange.link_id}),
        **(exchange.archive or {}),
    )
