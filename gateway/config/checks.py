"""What the parts of a config say about each other; mostly by raw data, beside the models."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from gateway.config.errors import Loc, did_you_mean, dotted
from gateway.config.model import Config
from gateway.config.server import Admin, Server
from gateway.config.store_url import IN_MEMORY

_ROUTES = ("/api/", "/v1/", "/d/")
_EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104  # nothing is bound here


class Finding(NamedTuple):
    """Something wrong at *loc*; nothing else needs to be said about what lies below *covers*."""

    loc: Loc
    message: str
    covers: Loc


def cross_check(data: Mapping[str, object], types: Iterable[str]) -> Iterator[Finding]:
    """Yield what is wrong between the parts of *data*; parts of a wrong shape are passed over."""
    executors = _mapping(data.get("executors"))
    yield from _types(executors, sorted(types))
    yield from _placement(data, executors)
    yield from _agents(_mapping(data.get("agents")), executors)
    yield from _listener(_mapping(data.get("server")))
    yield from _store(_mapping(data.get("store")), _mapping(data.get("server")))
    keys = _mapping(data.get("auth")).get("keys")
    yield from _unique(keys, "id")
    yield from _unique(keys, "sha256")


def check_values(config: Config) -> Iterator[Finding]:
    """Yield what is wrong between values of *config* each of which is right by itself."""
    server = config.server
    if server.offload is not None and server.offload.prefix.startswith(_ROUTES):
        loc: Loc = ("server", "offload", "prefix")
        yield Finding(loc, "is where the gateway itself answers; choose another", loc)
    if server.admin is not None and server.socket is None and _meet(server, server.admin):
        loc = ("server", "admin", "port")
        yield Finding(loc, "is the same as server.port; choose another", loc)
    for name, section in config.executors.items():
        # Its `TooLarge` is an answer, and no other executor would be asked for what is in between.
        if section.largest_file is not None and section.largest_file < config.limits.file:
            loc = ("executors", name, "max_file")
            yield Finding(loc, "must not be less than limits.file", loc)


def _meet(server: Server, admin: Admin) -> bool:
    """Whether both would listen on one port of one address."""
    hosts = {server.host, admin.host}
    families = {":" in host for host in hosts}
    overlap = len(hosts) == 1 or (len(families) == 1 and not hosts.isdisjoint(_EVERYWHERE))
    return server.port == admin.port != 0 and overlap


def named_types(data: Mapping[str, object]) -> set[object]:
    """Return every `type:` that an executor of *data* has."""
    executors = _mapping(data.get("executors")).values()
    return {type_ for one in executors if isinstance(type_ := _mapping(one).get("type"), str)}


def _types(executors: Mapping[str, object], types: list[str]) -> Iterator[Finding]:
    for name, config in executors.items():
        covers: Loc = ("executors", name)
        if not isinstance(config, dict):
            continue
        if "type" not in config:
            yield Finding((*covers, "type"), f"is missing: one of {', '.join(types)}", covers)
        elif not isinstance(wanted := config["type"], str):
            yield Finding((*covers, "type"), f"must be text: one of {', '.join(types)}", covers)
        elif wanted not in types:
            message = f"no executor of type {wanted!r}{did_you_mean(wanted, types)}"
            yield Finding((*covers, "type"), message, covers)


def _placement(data: Mapping[str, object], executors: Mapping[str, object]) -> Iterator[Finding]:
    if "placement" not in data and len(executors) > 1:
        loc: Loc = ("placement",)
        message = "is missing: with several executors, default.executor must name one of them"
        yield Finding(loc, message, loc)
    placement = _mapping(data.get("placement"))
    yield from _route(placement.get("default"), ("placement", "default"), executors)
    rules = placement.get("rules")
    for number, rule in enumerate(rules if isinstance(rules, list) else ()):
        yield from _route(rule, ("placement", "rules", number), executors)


def _route(route: object, place: Loc, executors: Mapping[str, object]) -> Iterator[Finding]:
    named: list[tuple[Loc, object]] = [((*place, "executor"), _mapping(route).get("executor"))]
    fallback = _mapping(route).get("fallback")
    for number, name in enumerate(fallback if isinstance(fallback, list) else ()):
        named.append(((*place, "fallback", number), name))
    seen: set[str] = set()
    for loc, name in named:
        if not isinstance(name, str):
            continue
        if name not in executors:
            yield Finding(loc, f"no executor {name!r}{did_you_mean(name, executors)}", loc)
        elif name in seen:
            yield Finding(loc, f"{name!r} has been asked already in this route", loc)
        seen.add(name)


def _agents(agents: Mapping[str, object], executors: Mapping[str, object]) -> Iterator[Finding]:
    for agent_id, agent in agents.items():
        name = _mapping(agent).get("executor")
        if isinstance(name, str) and name not in executors:
            loc: Loc = ("agents", agent_id, "executor")
            yield Finding(loc, f"no executor {name!r}{did_you_mean(name, executors)}", loc)


def _listener(server: Mapping[str, object]) -> Iterator[Finding]:
    beside = [name for name in ("host", "port") if name in server]
    if server.get("socket") is not None and beside:
        loc: Loc = ("server", "socket")
        message = f"listens instead of server.{beside[0]}; remove one of the two"
        yield Finding(loc, message, loc)
    if server.get("offload") and not server.get("socket") and not server.get("trusted_proxies"):
        loc = ("server", "offload")
        yield Finding(loc, "needs server.socket or trusted_proxies: only they are told", loc)


def _store(store: Mapping[str, object], server: Mapping[str, object]) -> Iterator[Finding]:
    url, workers = store.get("url"), server.get("workers")
    loc: Loc = ("store", "url")
    if url == IN_MEMORY and isinstance(workers, int) and workers > 1:
        yield Finding(loc, "is in the memory of one worker, which others cannot share", loc)
    if store.get("password") is not None and not str(url).startswith("postgres"):
        loc = ("store", "password")
        yield Finding(loc, "is for store.url: postgresql://…", loc)


def _unique(keys: object, field: str) -> Iterator[Finding]:
    seen: dict[str, Loc] = {}
    for number, key in enumerate(keys if isinstance(keys, list) else ()):
        value = _mapping(key).get(field)
        if not isinstance(value, str):
            continue
        loc: Loc = ("auth", "keys", number, field)
        value = value.lower() if field == "sha256" else value
        first = seen.setdefault(value, loc)
        if first != loc:
            yield Finding(loc, f"is the same as {dotted(first)}", loc)


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
