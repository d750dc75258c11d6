"""What the store keeps: sessions, keys, links, and the events of a session."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from gateway.domain.model import ANY_SESSION, Principal, Scope, SessionId


@dataclass(frozen=True, slots=True)
class Session:
    """A registered session.

    *external_id* is another name for it, unique within *org*. *executor* and *workspace* say where
    its workspace is, in the executor's own words; None: wherever placement says, under its id.
    """

    id: SessionId
    org: str
    created_at: datetime
    status: str = "idle"
    external_id: str | None = None
    name: str | None = None
    agent_id: str | None = None
    version_id: str | None = None
    storage_binding_id: str | None = None
    internet_access: bool = False
    last_message_id: str | None = None
    last_message_status: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)
    executor: str | None = None
    workspace: str | None = None


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Sessions, newest first; with *next_cursor* the page behind them is asked for."""

    sessions: tuple[Session, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key, known by its SHA-256 only.

    *last_used_at* is coarse: some minutes may pass before it is written.
    """

    id: str
    org: str
    digest: bytes
    scopes: frozenset[Scope]
    created_at: datetime
    sessions: tuple[str, ...] = ANY_SESSION
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None

    @property
    def principal(self) -> Principal:
        """Who holds the key; whether it is still good is for the caller to judge."""
        return Principal(self.id, self.org, self.scopes, self.sessions, self.expires_at)


@dataclass(frozen=True, slots=True)
class Link:
    """A ticket for something in a session, known by the ticket's SHA-256 only.

    *target* is text of whoever makes links. *key_id* is the key that made it. *max_uses* None: as
    often as anybody likes.
    """

    id: str
    digest: bytes
    org: str
    session_id: SessionId
    key_id: str
    target: str
    created_at: datetime
    expires_at: datetime
    max_uses: int | None = None
    uses: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a session; *id* is one more than that of the event before.

    *data* is one JSON object, as text.
    """

    session_id: SessionId
    id: int
    kind: str
    data: str
    created_at: datetime
