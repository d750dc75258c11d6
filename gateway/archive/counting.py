"""Counts archives that are made, wherever their bytes go."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from gateway.archive.plan import Plan
from gateway.telemetry import metrics


@contextmanager
def counted(plan: Plan) -> Iterator[None]:
    """Count what is done inside as one archive that was made, or was not, and its time."""
    began, outcome = monotonic(), "error"
    try:
        yield
        outcome = "ok"
        metrics.ARCHIVE_INPUT_BYTES.inc(plan.uncompressed)
    except asyncio.CancelledError:
        outcome = "cancelled"
        raise
    finally:
        metrics.ARCHIVE_BUILDS.labels(plan.format.value, outcome).inc()
        metrics.ARCHIVE_BUILD_SECONDS.observe(monotonic() - began)
