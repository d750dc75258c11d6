"""The composition root: turns a config into sites that are ready to serve."""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec

import structlog

from gateway.archive.archiver import Archiver
from gateway.auth.authenticator import Authenticator, ConfigKeys, KeySource
from gateway.config.model import Auth, Config, Key
from gateway.config.model import Route as ExecutorRoute
from gateway.domain.archives import ArchiveBounds
from gateway.domain.model import Principal, Scope
from gateway.executors.base import Executor
from gateway.executors.fallback import Fallback
from gateway.executors.guarded import Guarded
from gateway.executors.registry import executor_class
from gateway.http.authn import GATE, Endpoint, Gate
from gateway.http.dialects.base import Dialect, Route
from gateway.http.dialects.blackbox import Blackbox
from gateway.http.dialects.dari import Dari
from gateway.http.dialects.links import LinkRoutes
from gateway.http.dialects.native import Native
from gateway.http.dialects.shannon import Shannon
from gateway.http.event_stream import STREAMS, Streams
from gateway.http.health import HealthRoutes, Lifecycle
from gateway.http.offload import OFFLOAD, Offload
from gateway.http.pace import PACE_LIMITS, PaceLimits
from gateway.http.site import Site
from gateway.http.throttle import Crowding, Throttle
from gateway.http.turns import TURNS, Turns
from gateway.service.archives import Archives
from gateway.service.changes import Changes
from gateway.service.events import Ledger
from gateway.service.following import Following
from gateway.service.links import Links
from gateway.service.placement import Placement
from gateway.service.provisioning import Provisioning
from gateway.service.sessions import Sessions
from gateway.service.stored_keys import StoredKeys
from gateway.service.workspaces import Bounds, Workspaces
from gateway.store.store import opened
from gateway.system.background import Background
from gateway.telemetry.tallies import settled

log = structlog.get_logger()

_ANONYMOUS = Principal(
    "anonymous",
    "default",
    frozenset({Scope.SESSIONS_READ, Scope.FILES_READ, Scope.ARCHIVES_READ}),
)


@dataclass(frozen=True, slots=True)
class Sites:
    """What one config serves: the public site, and the one for operators.

    What *archiver* makes may be followed by those who ask others.
    """

    main: Site
    admin: Site
    archiver: Archiver


@dataclass(frozen=True, slots=True)
class Services:
    """The use cases that the dialects call."""

    workspaces: Workspaces
    archives: Archives
    sessions: Sessions
    provisioning: Provisioning
    links: Links
    following: Following


@asynccontextmanager
async def wired(config: Config, lifecycle: Lifecycle) -> AsyncIterator[Sites]:
    """Start what *config* names and yield the sites on top of it."""
    async with settled(), AsyncExitStack() as stack:
        executors = {
            name: Guarded(
                await stack.enter_async_context(
                    executor_class(section.type).running(name, section)
                ),
                section,
                config.limits.file,
            )
            for name, section in config.executors.items()
        }
        secret, background = config.store.password, Background()
        store = await stack.enter_async_context(
            opened(config.store.address, None if secret is None else secret.read(), background)
        )
        placement, limits = _placement(config, executors), config.limits
        is_strict = config.sessions.register_ == "strict"
        looked_up = store if config.uses_store else None
        sessions = Sessions(placement, looked_up, strict=is_strict)
        archiver = await stack.enter_async_context(
            Archiver.running(
                config.spool.directory,
                config.spool.bytes,
                processes=os.cpu_count() or 1,
                most_builds=2 * limits.archives_at_once,
            )
        )
        health = HealthRoutes(list(executors.values()), store, archiver, lifecycle, background)
        bounds = ArchiveBounds(
            limits.archive_entries, limits.archive_bytes, limits.file, limits.depth
        )
        ledger = await stack.enter_async_context(Ledger.running(store.events, background))
        provisioning = Provisioning(sessions, placement, config.agents, store)
        if looked_up is not None:
            await stack.enter_async_context(
                background.beside("sessions.given_up", provisioning.keep_giving_up)
            )
        services = Services(
            Workspaces(sessions, ledger, Bounds(limits.file, limits.list_entries, limits.depth)),
            Archives(sessions, ledger, bounds, archiver, limits.archives_at_once),
            sessions,
            provisioning,
            Links(store, sessions, {key.id: _principal(key) for key in config.auth.keys}),
            Following(sessions, store.events, Changes(ledger, background)),
        )
        stored = [] if looked_up is None else [StoredKeys(store.keys)]
        authenticator = await stack.enter_async_context(
            authenticating(config.auth, background, stored)
        )
        main, admin = public(config, lifecycle, authenticator, services), Site()
        health.add_to(main, with_metrics=False)
        health.add_to(admin, with_metrics=True)
        yield Sites(main, admin, archiver)


@asynccontextmanager
async def authenticating(
    auth: Auth, background: Background, stored: Sequence[KeySource] = ()
) -> AsyncIterator[Authenticator]:
    """Yield who tells the callers that *auth* lets in, and those with *stored* keys."""
    keys = ConfigKeys((bytes.fromhex(key.sha256), _principal(key)) for key in auth.keys)
    if auth.jwt is None:
        yield Authenticator([keys, *stored])
        return
    from gateway.auth.jwt import JwtTokens  # it needs an extra

    async with JwtTokens.running(auth.jwt, background) as tokens:
        yield Authenticator([keys, *stored], tokens)


def public(
    config: Config, lifecycle: Lifecycle, authenticator: Authenticator, services: Services
) -> Site:
    """The site for clients: every dialect of the use cases, behind the gate."""
    site = Site()
    site.share(TURNS, Turns())
    site.share(PACE_LIMITS, PaceLimits(config.server.idle_timeout, config.server.min_rate))
    if config.server.offload is not None:
        offload = Offload(config.server.offload.prefix, config.server.trusted_proxies)
        site.share(OFFLOAD, offload)
    gate = _gate(config, authenticator)
    site.share(GATE, gate)
    crowding = Crowding("streams_at_once", config.limits.streams_at_once)
    site.share(STREAMS, Streams(lifecycle, crowding))
    for dialect in dialects(config, services):
        by_template: dict[str, list[Route]] = {}
        for route in dialect.routes():
            by_template.setdefault(route.template, []).append(route)
        for template, routes in by_template.items():
            site.mount(template, Endpoint(dialect, routes, gate))
    return site


def dialects(config: Config, services: Services) -> list[Dialect]:
    """Every dialect that is spoken."""
    archives, has_zstd = services.archives, find_spec("zstandard") is not None
    return [
        Shannon(services.workspaces),
        Native(archives, services.provisioning, has_zstd=has_zstd),
        Dari(archives, services.sessions, services.provisioning, services.following),
        LinkRoutes(
            services.links,
            services.workspaces,
            archives,
            config.server.public_url,
            has_zstd=has_zstd,
        ),
        Blackbox(archives, config.dialects.blackbox.root),
    ]


def _placement(config: Config, executors: Mapping[str, Executor]) -> Placement:
    def chain(route: ExecutorRoute) -> Executor:
        names = (route.executor, *route.fallback)
        if len(names) == 1:
            return executors[route.executor]
        return Fallback([executors[name] for name in names], config.placement.deadline)

    rules = [(rule.session, chain(rule)) for rule in config.placement.rules]
    return Placement(chain(config.placement.default), rules, executors)


def _gate(config: Config, authenticator: Authenticator) -> Gate:
    auth, limits = config.auth, config.limits
    if auth.allow_unauthenticated:
        log.warning("open_access", hint="auth.allow_unauthenticated lets everybody read everything")
    elif not auth.keys and auth.jwt is None and not config.uses_store:
        log.warning("no_keys", hint="auth.keys is empty: nobody gets in")
    return Gate(
        authenticator,
        anonymous=_ANONYMOUS if auth.allow_unauthenticated else None,
        failures=Throttle("auth_failures_per_minute", limits.auth_failures_per_minute),
        requests=Throttle("requests_per_minute", limits.requests_per_minute),
        crowding=Crowding("requests_at_once", limits.requests_at_once),
        trusted_proxies=config.server.trusted_proxies,
    )


def _principal(key: Key) -> Principal:
    return Principal(key.id, key.org, frozenset(key.scopes), tuple(key.sessions), key.expires)
