"""What every store promises.

All of it holds across processes: what one has written, every other one reads. Two lookups that
nearly every request makes, `Keys.by_digest` and `Sessions.find`, may answer from what was known
half a second ago. Calls raise `StoreUnavailable` when the store does not answer in time; it
comes back by itself. Writing text that holds a NUL or half a surrogate pair raises
`BadParameter`; nothing is ever found under such text. Times are UTC, kept to the microsecond.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime

from gateway.domain.model import SessionId
from gateway.domain.records import Event, Link, Session, SessionPage, StoredKey


class Sessions(ABC):
    """The registered sessions of all organisations."""

    @abstractmethod
    async def create(self, session: Session) -> None:
        """Register *session*; raise `AlreadyExists` if its id, or its external id within its
        organisation, is taken.
        """

    @abstractmethod
    async def find(self, reference: str, org: str) -> Session | None:
        """The session of *org* with that id or external id, else anybody's with that id.

        Whose it is must be looked at: the answer may belong to another organisation. Nothing that
        others register can hide a session from its own organisation. At most half a second old.
        """

    @abstractmethod
    async def claimed(self, reference: str) -> bool:
        """Whether that is the id or the workspace of anybody's session, or was of a deleted one.

        Workspaces whose names are longer than any id, 128 characters, are not looked for.
        """

    @abstractmethod
    async def page(
        self,
        org: str,
        *,
        limit: int,
        cursor: str | None = None,
        agent_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> SessionPage:
        """The newest sessions of *org* whose agent and every entry of *metadata* match exactly.

        What is registered meanwhile makes later pages neither repeat nor miss a session. Raises
        `BadParameter` for a cursor that no page gave, and for more than 32 entries of *metadata*.
        """

    @abstractmethod
    async def left(self, status: str, before: datetime, limit: int) -> Sequence[Session]:
        """The oldest sessions of all organisations with that status, registered before *before*."""

    @abstractmethod
    async def update(self, before: Session, after: Session) -> bool:
        """Write *after*'s name, status, last message, executor and workspace.

        False, and nothing is written, if the session is gone or no longer has *before*'s status:
        of two transitions from one status, one wins.
        """

    @abstractmethod
    async def delete(self, session_id: SessionId) -> bool:
        """Forget the session, its links and its events; whether there was one.

        What it and its workspace were called is `claimed` from then on.
        """


class Keys(ABC):
    """The keys that are not in the config."""

    @abstractmethod
    async def create(self, key: StoredKey) -> None:
        """Keep *key*; raise `AlreadyExists` if its id or its digest is taken, revoked or not."""

    @abstractmethod
    async def by_digest(self, digest: bytes) -> StoredKey | None:
        """The key with that SHA-256, revoked and expired ones too; at most half a second old."""

    @abstractmethod
    async def by_id(self, key_id: str) -> StoredKey | None:
        """The key with that id, revoked and expired ones too."""

    @abstractmethod
    async def all(self, org: str | None = None) -> Sequence[StoredKey]:
        """Every key, or every one of *org*, by id."""

    @abstractmethod
    async def revoke(self, key_id: str) -> bool:
        """Stop the key for good, within a second everywhere; whether it was a good one."""

    @abstractmethod
    async def rotate(self, key_id: str, digest: bytes) -> bool:
        """Let *digest* stand for the key from now on; whether the key is there, unrevoked.

        The old digest is unknown within a second everywhere. Raises `AlreadyExists` if another key
        has *digest*.
        """

    @abstractmethod
    def note_use(self, key_id: str) -> None:
        """Remember that the key is in use; written within a minute, at most once in a minute."""


class Links(ABC):
    """The links that work without a key."""

    @abstractmethod
    async def create(self, link: Link) -> None:
        """Keep *link* until it has expired; raise `AlreadyExists` if its id or digest is taken."""

    @abstractmethod
    async def look(self, digest: bytes) -> Link | None:
        """What `take` would give, without taking a use."""

    @abstractmethod
    async def take(self, digest: bytes) -> Link | None:
        """Take one of the uses of the link with that digest.

        None if it is unknown, expired, used up or revoked. However many take at the same moment,
        wherever, no more than `max_uses` of them get it.
        """

    @abstractmethod
    async def by_id(self, link_id: str) -> Link | None:
        """The link with that id, as long as it is kept."""

    @abstractmethod
    async def revoke(self, link_id: str) -> bool:
        """Forget the link at once; whether there was one."""


class Events(ABC):
    """The ledgers of what happened: one for each session, registered or not."""

    @abstractmethod
    async def append(self, session_id: SessionId, kind: str, data: Mapping[str, object]) -> Event:
        """Write an event behind the session's last one; of very long ledgers the oldest go."""

    @abstractmethod
    async def after(self, session_id: SessionId, event_id: int, limit: int) -> Sequence[Event]:
        """Up to *limit* events with larger ids than *event_id* (0: all there are), in order."""

    @abstractmethod
    def follow(self, session_id: SessionId, event_id: int) -> AsyncIterator[Event]:
        """Yield the events behind *event_id*, then, for ever, new ones as they are written.

        Those that other processes write come within half a second. A reader that is slow holds up
        nobody and loses only what the ledger no longer has. While the store cannot be asked, the
        reader waits.
        """


class Store(ABC):
    """One place for all of it; an async context manager of each kind of store makes one."""

    sessions: Sessions
    keys: Keys
    links: Links
    events: Events

    @abstractmethod
    async def check(self) -> None:
        """Ask the store for something; raise `StoreUnavailable` if it cannot say it."""
