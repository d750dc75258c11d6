"""Links: files and archives for whoever has a ticket, while its maker's key may have them."""

import secrets
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import orjson
import structlog

from gateway.domain.archives import Format, Packing
from gateway.domain.errors import ForeignSession, LinkNotFound, ScopeMissing
from gateway.domain.model import Principal, Scope, SessionId
from gateway.domain.paths import WorkspacePath
from gateway.domain.records import Link
from gateway.service.access import authorize
from gateway.service.sessions import Sessions
from gateway.store.base import Store

audit = structlog.get_logger("audit")

_TICKET_BYTES = 24  # 192 random bits
_ID_BYTES = 8

Target = WorkspacePath | Packing
"""What a link is for: a file, or an archive."""


@dataclass(frozen=True, slots=True)
class NewLink:
    """A link that was made; its *ticket* is told this once."""

    id: str
    ticket: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Grant:
    """What a ticket gives now: *target* in a session, by the permission of *principal*."""

    link: Link
    principal: Principal
    target: Target


class Links:
    """The use cases around links; *listed* are the holders of the keys in the config, by id."""

    def __init__(self, store: Store, sessions: Sessions, listed: Mapping[str, Principal]) -> None:
        self._store = store
        self._sessions = sessions
        self._listed = listed

    async def make(
        self,
        principal: Principal,
        reference: SessionId,
        target: Target,
        expires_in_s: int,
        max_uses: int | None,
    ) -> NewLink:
        """Make a link, which ends with its maker's key if that is earlier.

        Whether the file is there is seen when the link is used. Raises `ScopeMissing`, also for who
        has no key that could be looked at again, and what `Sessions.workspace` and `enter` raise.
        """
        principal.require(Scope.LINKS_WRITE)
        workspace = await self._sessions.workspace(principal, reference, _scope(target))
        if await self._maker(principal.key_id, principal.org) != principal:
            raise ScopeMissing("links can be made with a key only")
        # Or a session that is another's would be told from one that is not there.
        async with AsyncExitStack() as stack:
            walk = workspace.executor.walk(workspace.reference, WorkspacePath.ROOT, depth=1)
            await self._sessions.enter(workspace, walk)
            stack.push_async_exit(walk)
        now = datetime.now(UTC).replace(microsecond=0)
        expires_at = now + timedelta(seconds=expires_in_s)
        if principal.expires is not None:
            expires_at = min(expires_at, principal.expires.astimezone(UTC))
        made = NewLink(
            f"lnk_{secrets.token_hex(_ID_BYTES)}", secrets.token_urlsafe(_TICKET_BYTES), expires_at
        )
        link = Link(
            id=made.id,
            digest=_digest(made.ticket),
            org=principal.org,
            session_id=workspace.session_id,
            key_id=principal.key_id,
            target=_written(target),
            created_at=now,
            expires_at=expires_at,
            max_uses=max_uses,
        )
        await self._store.links.create(link)
        _audit("audit.link_created", link)
        return made

    async def revoke(self, principal: Principal, link_id: str) -> None:
        """End a link of the caller's organisation; raise `ScopeMissing` or `LinkNotFound`."""
        principal.require(Scope.LINKS_WRITE)
        link = await self._store.links.by_id(link_id)
        if link is None or link.org != principal.org or not principal.may_see(link.session_id):
            raise LinkNotFound
        if not await self._store.links.revoke(link_id):
            raise LinkNotFound
        _audit("audit.link_revoked", link)

    async def find(self, ticket: str) -> Grant:
        """What *ticket* gives at this moment, without taking a use; raise `LinkNotFound`.

        The store is asked the same, and as often, whatever is wrong with a ticket.
        """
        link = await self._store.links.look(_digest(ticket))
        maker = await self._maker(*((link.key_id, link.org) if link else ("", "")))
        if link is None or maker is None:
            raise LinkNotFound
        target = _read(link.target)
        try:
            authorize(maker, link.session_id, Scope.LINKS_WRITE)
            maker.require(_scope(target))
        except (ScopeMissing, ForeignSession):
            raise LinkNotFound from None
        return Grant(link, maker, target)

    async def take(self, grant: Grant) -> None:
        """Take one use of the link; raise `LinkNotFound` if there is none left."""
        if await self._store.links.take(grant.link.digest) is None:
            raise LinkNotFound
        _audit("audit.link_used", grant.link)

    async def _maker(self, key_id: str, org: str) -> Principal | None:
        """Who holds that key of *org* today, if it is good."""
        stored = await self._store.keys.by_id(key_id)
        found = self._listed.get(key_id)
        if found is None and stored is not None and stored.revoked_at is None:
            found = stored.principal
        if found is None or found.org != org:
            return None
        is_good = found.expires is None or found.expires > datetime.now(UTC)
        return found if is_good else None


def _digest(ticket: str) -> bytes:
    # What is in the target but not UTF-8 has become surrogates.
    return sha256(ticket.encode("utf-8", "surrogateescape")).digest()


def _scope(target: Target) -> Scope:
    return Scope.ARCHIVES_READ if isinstance(target, Packing) else Scope.FILES_READ


def _written(target: Target) -> str:
    if isinstance(target, WorkspacePath):
        return orjson.dumps({"path": target.relative}).decode()
    archive = {
        "format": target.format.value,
        "paths": [path.relative for path in target.paths],
        "exclude": target.exclude,
        "gitignore": target.gitignore,
        "stored": target.stored,
        "manifest": target.manifest,
    }
    return orjson.dumps({"archive": archive}).decode()


def _read(text: str) -> Target:
    target = orjson.loads(text)
    if "path" in target:
        return WorkspacePath.parse(target["path"].encode())
    archive = target["archive"]
    return Packing(
        format=Format(archive["format"]),
        paths=tuple(WorkspacePath.parse(path.encode()) for path in archive["paths"]),
        exclude=tuple(archive["exclude"]),
        gitignore=archive["gitignore"],
        stored=archive["stored"],
        manifest=archive.get("manifest", False),  # of a link that is older than these
    )


def _audit(event: str, link: Link) -> None:
    audit.info(event, link_id=link.id, key_id=link.key_id, org=link.org, session_id=link.session_id)
