"""The Prometheus metrics; over several worker processes they add up.

Metrics of one process live in the default registry. When `PROMETHEUS_MULTIPROC_DIR` is set before
this module is imported, each process keeps its numbers in that directory and a scrape of any
of them gives the sum.
"""

import os
import sys
from functools import lru_cache
from importlib.metadata import version

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from gateway.telemetry.tallies import Level, Observations, Tallies, Total, settle

CONTENT_TYPE = CONTENT_TYPE_LATEST
_VERSION = version("workspace-gateway")
_PREFIX = "workspace_gateway_"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600)

REQUESTS = Counter(
    _PREFIX + "http_requests_total", "Requests answered.", ["route", "method", "code"]
)
DURATION = Histogram(
    _PREFIX + "http_request_duration_seconds",
    "From the request's head to the last byte handed to the socket.",
    ["route"],
    buckets=_SECONDS,
)
FIRST_BYTE = Histogram(
    _PREFIX + "http_first_byte_seconds",
    "From the request's head to the first byte of the answer.",
    ["route"],
    buckets=_SECONDS,
)
RESPONSE_BYTES = Counter(
    _PREFIX + "http_response_bytes_total", "Body bytes handed to the socket.", ["route"]
)
IN_FLIGHT = Level(
    Gauge(
        _PREFIX + "http_requests_in_flight",
        "Requests being answered now.",
        multiprocess_mode="livesum",
    )
)
AUTH_FAILURES = Counter(
    _PREFIX + "auth_failures_total", "Requests without a valid credential.", ["reason"]
)
THROTTLED = Counter(_PREFIX + "throttled_total", "Requests over a rate limit.", ["limit"])
EXECUTOR_REQUESTS = Counter(
    _PREFIX + "executor_requests_total",
    "Calls of executors; outcome is ok, refused (a verdict), cancelled or the kind of outage.",
    ["executor", "operation", "outcome"],
)
EXECUTOR_DURATION = Histogram(
    _PREFIX + "executor_request_duration_seconds",
    "Until the executor's answer began, or failed to.",
    ["executor", "operation"],
    buckets=_SECONDS,
)
FALLBACKS = Counter(
    _PREFIX + "executor_fallbacks_total",
    "Times that the next executor of a route was asked.",
    ["from", "to", "reason"],
)
CIRCUIT = Gauge(
    _PREFIX + "executor_circuit_state",
    "0: closed, 1: half open, 2: open, so that the executor is not asked for any workspace.",
    ["executor"],
    multiprocess_mode="livemax",
)
ARCHIVE_BUILDS = Counter(
    _PREFIX + "archive_builds_total",
    "Archives made, into the spool or for one reader; outcome is ok, cancelled or error.",
    ["format", "outcome"],
)
ARCHIVE_INPUT_BYTES = Counter(
    _PREFIX + "archive_input_bytes_total", "Bytes of files that were read into archives."
)
ARCHIVE_BUILD_SECONDS = Histogram(
    _PREFIX + "archive_build_seconds",
    "From the start of an archive to its last byte.",
    buckets=_SECONDS,
)
SPOOL_BYTES = Gauge(
    _PREFIX + "spool_bytes",
    "What the archives in the spool take on the disk.",
    multiprocess_mode="mostrecent",  # all workers share one spool
)
SPOOL_REQUESTS = Counter(
    _PREFIX + "spool_requests_total",
    "Archives asked for; result is hit, miss, follow (being made) or bypass (did not fit).",
    ["result"],
)
BUILD_INFO = Gauge(
    _PREFIX + "build_info",
    "Always 1; the labels say what runs.",
    ["version", "python"],
    multiprocess_mode="max",
)


class RouteMetrics:
    """The metrics of one route."""

    def __init__(self, route: str) -> None:
        self._requests = Tallies(REQUESTS, route)
        self._duration = Observations(DURATION.labels(route))
        self._first_byte = Observations(FIRST_BYTE.labels(route))
        self._bytes = Total(RESPONSE_BYTES.labels(route))

    def count(
        self, method: str, status: int, duration_s: float, first_byte_s: float, sent: int
    ) -> None:
        """Count one answered request."""
        self._requests.add((method, status))
        self._duration.add(duration_s)
        self._first_byte.add(first_byte_s)
        self._bytes.add(sent)


@lru_cache(256)
def of_route(route: str) -> RouteMetrics:
    """The metrics of the route with this template."""
    return RouteMetrics(route)


class ExecutorMetrics:
    """The metrics of one executor."""

    def __init__(self, executor: str) -> None:
        self.circuit = CIRCUIT.labels(executor)
        self._executor = executor
        self._requests = Tallies(EXECUTOR_REQUESTS, executor)
        self._durations: dict[str, Observations] = {}

    def count(self, operation: str, outcome: str, duration_s: float) -> None:
        """Count one call."""
        self._requests.add((operation, outcome))
        durations = self._durations.get(operation)
        if durations is None:
            durations = Observations(EXECUTOR_DURATION.labels(self._executor, operation))
            self._durations[operation] = durations
        durations.add(duration_s)


@lru_cache(256)
def of_executor(executor: str) -> ExecutorMetrics:
    """The metrics of the executor with this name."""
    return ExecutorMetrics(executor)


def expose() -> bytes:
    """The metrics of all worker processes in the Prometheus text format."""
    settle()
    BUILD_INFO.labels(_VERSION, sys.version.split()[0]).set(1)
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # prometheus_client
    return generate_latest(registry)
