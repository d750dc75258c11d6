"""The one place that turns verdicts into statuses."""

import math
from collections.abc import Mapping

import orjson

from gateway.domain import errors
from gateway.domain.errors import GatewayError
from gateway.http.answers import Answer

JSON = "application/json; charset=utf-8"


class PreconditionFailed(GatewayError):
    """`If-Match` or `If-Unmodified-Since` says no (RFC 9110 section 13)."""


class BodyLate(GatewayError):
    """The body did not arrive in time (RFC 9110 section 15.5.9)."""


class VersionNotSupported(GatewayError):
    """Neither HTTP/1.0 nor HTTP/1.1 (RFC 9110 section 15.6.6)."""


class RangeNotSatisfiable(GatewayError):
    """No requested range lies inside the *size* bytes that there are (RFC 9110 section 14.4)."""

    def __init__(self, size: int) -> None:
        super().__init__("range not satisfiable")
        self.size = size


STATUS: Mapping[type[GatewayError], int] = {
    errors.GatewayError: 500,
    errors.RequestRefused: 400,
    errors.BadParameter: 400,
    errors.BadSessionId: 400,
    errors.PathRefused: 400,
    errors.CredentialsRejected: 401,
    errors.ScopeMissing: 403,
    errors.AlreadyExists: 409,
    errors.LinkNotFound: 404,
    errors.RetryLater: 503,
    errors.TooManyRequests: 429,
    errors.WorkspaceChanged: 503,
    errors.StoreUnavailable: 503,
    errors.IdentityUnavailable: 503,
    errors.Verdict: 500,
    errors.SessionNotFound: 404,
    errors.ForeignSession: 404,
    errors.AgentNotFound: 404,
    errors.NoWorkspace: 404,
    errors.PathNotFound: 404,
    errors.NotAFile: 400,
    errors.NotADirectory: 400,
    errors.NotReadable: 404,
    errors.TooLarge: 413,
    errors.FileTooLarge: 413,
    errors.Outage: 502,
    errors.WorkspaceGone: 404,
    errors.Unavailable: 502,
    errors.Unreachable: 502,
    errors.Busy: 503,
    errors.CircuitOpen: 502,
    errors.TimedOut: 502,
    errors.ProtocolFault: 502,
    errors.AuthRejected: 502,
    errors.Unsupported: 502,
    errors.ArchiveFailed: 500,
    errors.StoreUnusable: 500,
    BodyLate: 408,
    PreconditionFailed: 412,
    RangeNotSatisfiable: 416,
    VersionNotSupported: 505,
}

VERDICT_HEADER = "X-Workspace-Verdict"
"""Tells another gateway which verdict a status stands for; 404 is not one answer, but three."""

LIMIT_HEADER = "X-Workspace-Limit"
"""Tells it how many bytes a file may have, of one that has more."""

VERDICTS: Mapping[type[GatewayError], str] = {
    errors.GatewayError: "error",
    errors.RequestRefused: "request_refused",
    errors.BadParameter: "bad_parameter",
    errors.BadSessionId: "bad_session_id",
    errors.PathRefused: "path_refused",
    errors.CredentialsRejected: "credentials_rejected",
    errors.ScopeMissing: "scope_missing",
    errors.AlreadyExists: "already_exists",
    errors.LinkNotFound: "link_not_found",
    errors.RetryLater: "retry_later",
    errors.TooManyRequests: "too_many_requests",
    errors.WorkspaceChanged: "workspace_changed",
    errors.StoreUnavailable: "store_unavailable",
    errors.IdentityUnavailable: "identity_unavailable",
    errors.Verdict: "verdict",
    # One code for all four: that a session exists elsewhere, or for another key, is not told.
    errors.SessionNotFound: "session_not_found",
    errors.ForeignSession: "session_not_found",
    errors.NoWorkspace: "session_not_found",
    errors.WorkspaceGone: "session_not_found",
    errors.AgentNotFound: "agent_not_found",
    errors.PathNotFound: "path_not_found",
    errors.NotAFile: "not_a_file",
    errors.NotADirectory: "not_a_directory",
    errors.NotReadable: "not_readable",
    errors.TooLarge: "too_large",
    errors.FileTooLarge: "too_large",
    errors.Outage: "outage",
    errors.Unavailable: "unavailable",
    errors.Unreachable: "unreachable",
    errors.Busy: "busy",
    errors.CircuitOpen: "circuit_open",
    errors.TimedOut: "timed_out",
    errors.ProtocolFault: "protocol_fault",
    errors.AuthRejected: "auth_rejected",
    errors.Unsupported: "unsupported",
    errors.ArchiveFailed: "archive_failed",
    errors.StoreUnusable: "store_unusable",
    BodyLate: "body_late",
    PreconditionFailed: "precondition_failed",
    RangeNotSatisfiable: "range_not_satisfiable",
    VersionNotSupported: "version_not_supported",
}


def status_of(error: GatewayError, overrides: Mapping[type[GatewayError], int]) -> int:
    """The status of *error* in a dialect that differs from the table by *overrides*."""
    kind = type(error)
    return overrides.get(kind) or STATUS[kind]


def headers_of(error: GatewayError) -> dict[str, str]:
    """The headers that belong to *error* whatever the dialect."""
    headers = {VERDICT_HEADER: VERDICTS[type(error)]}
    match error:
        case errors.CredentialsRejected():
            headers["WWW-Authenticate"] = 'Bearer realm="workspace-gateway"'
        case errors.RetryLater():
            headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
        case errors.Busy():
            headers["Retry-After"] = "1"
        case errors.FileTooLarge():
            headers[LIMIT_HEADER] = str(error.limit)
        case RangeNotSatisfiable():
            headers["Content-Range"] = f"bytes */{error.size}"
    return headers


def error_body(message: str) -> bytes:
    """The error format of the Shannon, Blackbox and native routes."""
    return orjson.dumps({"error": message})


def error_response(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer in the error format."""
    return Answer(status, body, {"Content-Type": JSON, **(headers or {})})
