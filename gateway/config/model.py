"""The config as frozen values; the comments that explain each field are in `default.yaml`."""

import os
from collections.abc import Mapping
from functools import lru_cache, reduce
from operator import or_
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    create_model,
)
from pydantic_core import PydanticCustomError

from gateway.config.dialects import Agent, Dialects
from gateway.config.jwt import Jwt
from gateway.config.secret import Secret
from gateway.config.section import Section, Text
from gateway.config.server import Server
from gateway.config.store_url import IN_MEMORY, StoreUrl, sqlite_url, state_file
from gateway.config.units import Instant, Size, Timeout
from gateway.domain.model import Scope

KeyId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
ExecutorName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
AgentId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$")]


def _digest(text: str) -> str:
    # The text is never repeated: somebody may have put the key itself here.
    if len(text) != 64 or set(text) - set("0123456789abcdefABCDEF"):
        raise PydanticCustomError(
            "digest", "must be the key's SHA-256 as 64 hex digits: workspace-gateway keys hash"
        )
    return text.lower()


class Key(Section):
    """A key, known by its digest only."""

    id: KeyId
    org: Text
    sha256: Annotated[str, AfterValidator(_digest)]
    scopes: tuple[Scope, ...] = Field(min_length=1)
    sessions: tuple[Text, ...] = Field(default=("*",), min_length=1)
    expires: Instant | None = None


class Auth(Section):
    """Who gets in: nobody, unless it is written here."""

    keys: tuple[Key, ...] = ()
    jwt: Jwt | None = None
    allow_unauthenticated: bool = False


class Limits(Section):
    """What one request, or one client, may ask for."""

    file: Size = 100 * 1024**2
    archive_bytes: Size = 10 * 1024**3
    archive_entries: int = Field(default=200_000, ge=1)
    archives_at_once: int = Field(default=8, ge=1)
    list_entries: int = Field(default=100_000, ge=1)
    depth: int = Field(default=256, ge=1)
    requests_per_minute: int = Field(default=600, ge=0)
    requests_at_once: int = Field(default=128, ge=0)
    streams_at_once: int = Field(default=64, ge=0)
    auth_failures_per_minute: int = Field(default=30, ge=0)


class Spool(Section):
    """Where archives are kept for the next who asks; without *dir*, in the user's cache."""

    dir: Text | None = None
    bytes: Size = 20 * 1024**3

    @property
    def directory(self) -> str:
        """The directory, by the rules of the XDG base directories where *dir* does not say it."""
        if self.dir is not None:
            return self.dir
        cache = os.environ.get("XDG_CACHE_HOME", "")
        if not os.path.isabs(cache):
            cache = os.path.expanduser("~/.cache")
        return os.path.join(cache, "workspace-gateway", "spool")


class Store(Section):
    """Where sessions, keys, links and events are kept; without *url*, in the user's state."""

    url: StoreUrl | None = Field(default=None, repr=False)
    password: Secret | None = None

    @property
    def address(self) -> str:
        """The address in force."""
        return sqlite_url(state_file()) if self.url is None else self.url


class Timeouts(Section):
    """How long the gateway waits for an executor: until it is connected, until its answer begins,
    between two pieces of the answer, and for all of it. The wait for its turn is not part of that.
    """

    connect: Timeout = 2.0
    first_byte: Timeout = 30.0
    idle: Timeout = 30.0
    total: Timeout = 3600.0


class ExecutorConfig(Section):
    """What the config of every executor has; the rest is the plug-in's own.

    *concurrency*: calls at once; more of them wait for their turn.
    """

    type: str
    timeout: Timeouts = Timeouts()
    concurrency: int = Field(default=256, ge=1)

    @property
    def largest_file(self) -> int | None:
        """What its `max_file` says, if it takes no larger files than so many bytes."""
        return None


class Route(Section):
    """Where sessions go: to *executor*, and when that cannot answer to each *fallback* in turn."""

    executor: str
    fallback: tuple[str, ...] = ()


class Rule(Route):
    """A route for the sessions whose ids match the shell pattern *session*."""

    session: Text


class Placement(Section):
    """Which executor serves which session: the first rule that matches, or the default.

    *deadline* is for all executors of a route together, up to the first byte of the answer.
    """

    default: Route
    rules: tuple[Rule, ...] = ()
    deadline: Timeout = 60.0


class Sessions(Section):
    """Which sessions there are: every directory (open), or those that are registered (strict)."""

    register_: Literal["open", "strict"] = Field(default="open", alias="register")


def _without_placement(schema: dict[str, Any]) -> None:
    schema["required"].remove("placement")


class Config(Section):
    """A whole config, made by `load`, which also checks what fields say about each other."""

    model_config = ConfigDict(json_schema_extra=_without_placement)

    server: Server = Server()
    auth: Auth = Auth()
    limits: Limits = Limits()
    spool: Spool = Spool()
    store: Store = Store()
    dialects: Dialects = Dialects()
    executors: Mapping[ExecutorName, ExecutorConfig] = Field(min_length=1)
    placement: Placement
    sessions: Sessions = Sessions()
    agents: Mapping[AgentId, Agent] = Field(default_factory=dict)

    @property
    def uses_store(self) -> bool:
        """Whether sessions and keys are to be looked up in the store."""
        is_named = self.store.url not in (None, IN_MEMORY)
        return is_named or bool(self.agents) or self.sessions.register_ == "strict"


def config_model(executors: Mapping[str, type[BaseModel]]) -> type[Config]:
    """Return `Config` for the executor types in *executors*, which must not be empty."""
    return _config_model(tuple(sorted(executors.items(), key=lambda item: item[0])))


@lru_cache(maxsize=16)
def _config_model(executors: tuple[tuple[str, type[BaseModel]], ...]) -> type[Config]:
    models = [_named(name, model) for name, model in executors]
    one: Any = models[0]
    if len(models) > 1:
        one = Annotated[reduce(or_, models), Field(discriminator="type")]
    field: Any = (Mapping[ExecutorName, one], Field(min_length=1))
    return create_model("Config", __base__=Config, executors=field)


def _named(name: str, model: type[BaseModel]) -> type[BaseModel]:
    """Return *model* with the `type` that the registry knows it by."""
    kind: Any = (Literal[name], ...)
    return create_model(model.__name__, __base__=(model, ExecutorConfig), type=kind)
