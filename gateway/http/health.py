"""Liveness and readiness, for orchestrators and proxies; no credential is asked for."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import monotonic

import orjson
from aiohttp import web

from gateway.archive.archiver import Archiver
from gateway.domain.errors import StoreUnavailable, Unavailable
from gateway.executors.guarded import Guarded
from gateway.http.answers import Answer
from gateway.http.context import EXCHANGE, UNMATCHED
from gateway.http.dialects.base import NATIVE
from gateway.http.errors import JSON
from gateway.http.site import Site
from gateway.store.base import Store
from gateway.system.background import Background
from gateway.telemetry import metrics

_METHODS = ("GET", "HEAD")
_CHECK_DEADLINE_S = 2.0
_FRESH_S = 1.0  # anybody may ask for readiness, as often as they like; executors are asked seldom


class Lifecycle:
    """How far the process is on its way out: serving, unready (still serving), draining.

    *leaving* is set as soon as answers without an end have to end: then, and when another config
    has come into force.
    """

    def __init__(self) -> None:
        self.unready = False
        self.draining = False
        self.leaving = False


class HealthRoutes:
    """`/livez` says that the loop turns, the other routes whether requests can be answered.

    The gateway is ready while the store and at least one executor are: a broken one does not take
    it out of service as long as another can answer. Neither does a spool that cannot be used, for
    archives are made without it, nor work beside the requests that has failed of late; but both are
    told.
    """

    def __init__(
        self,
        executors: Sequence[Guarded],
        store: Store,
        archiver: Archiver,
        lifecycle: Lifecycle,
        background: Background,
    ) -> None:
        self._executors = executors
        self._store = store
        self._archiver = archiver
        self._lifecycle = lifecycle
        self._background = background
        self._probing = asyncio.Lock()
        self._states: Mapping[str, dict[str, object]] = {}
        self._store_ready = self._spool_ready = False
        self._fresh_until = 0.0

    def add_to(self, site: Site, with_metrics: bool) -> None:
        """Mount the routes; metrics belong on the admin listener alone."""
        site.mount("/livez", _Open("/livez", self.alive))
        for path in ("/readyz", "/healthz", "/health", "/readiness"):
            site.mount(path, _Open(path, self.ready))
        if with_metrics:
            site.mount("/metrics", _Open("/metrics", self.metrics))

    async def alive(self) -> Answer:
        """200 as long as the event loop turns."""
        return _json(200, {"status": "alive"})

    async def ready(self) -> Answer:
        """200 or 503, with what store, spool and each executor said within the last second."""
        if self._lifecycle.unready or self._lifecycle.draining:
            return _json(503, {"status": "draining"})
        async with self._probing:
            if monotonic() >= self._fresh_until:
                self._store_ready, self._spool_ready, found = await asyncio.gather(
                    _passes(self._store.check()),
                    _passes(self._archiver.check()),
                    asyncio.gather(*map(_probe, self._executors)),
                )
                self._states = dict(zip((e.name for e in self._executors), found, strict=True))
                self._fresh_until = monotonic() + _FRESH_S
        ready = self._store_ready and any(state["ready"] for state in self._states.values())
        return _json(
            200 if ready else 503,
            {
                "status": "ready" if ready else "unready",
                "store": {"ready": self._store_ready},
                "spool": {"ready": self._spool_ready},
                "executors": self._states,
                "failing": self._background.failing,
            },
        )

    async def metrics(self) -> Answer:
        """The Prometheus text format."""
        return Answer(200, metrics.expose(), {"Content-Type": metrics.CONTENT_TYPE})


class _Open:
    """A place for everybody."""

    dialect = NATIVE

    def __init__(self, name: str, handler: Callable[[], Awaitable[Answer]]) -> None:
        self.name = name
        self._handler = handler

    async def answer(self, request: web.BaseRequest) -> Answer:
        if request.method not in _METHODS:
            request[EXCHANGE].route = UNMATCHED
            raise web.HTTPMethodNotAllowed(request.method, _METHODS)
        return await self._handler()


async def _passes(check: Awaitable[None]) -> bool:
    try:
        async with asyncio.timeout(_CHECK_DEADLINE_S):
            await check
    except (StoreUnavailable, Unavailable, TimeoutError):
        return False
    return True


async def _probe(executor: Guarded) -> dict[str, object]:
    health = await executor.probe()
    return {"ready": health.ready, **health.details}


def _json(status: int, value: object) -> Answer:
    return Answer(status, orjson.dumps(value), {"Content-Type": JSON})
