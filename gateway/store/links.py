"""The links in a database."""

import asyncio
from datetime import UTC, datetime

from gateway.domain.errors import AlreadyExists, StoreUnavailable
from gateway.domain.records import Link
from gateway.store.base import Links
from gateway.store.database import Database, Duplicate, Row
from gateway.store.values import checked, checked_names, datetime_of, is_storable, moment

_COLUMNS = "id, digest, org, session_id, key_id, target, created_at, expires_at, max_uses, uses"
_INSERT = f"INSERT INTO links ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
_SELECT = f"SELECT {_COLUMNS} FROM links"
_GOOD = "digest = $1 AND expires_at > $2 AND (max_uses IS NULL OR uses < max_uses)"
_TAKE = f"UPDATE links SET uses = uses + 1 WHERE {_GOOD} RETURNING {_COLUMNS}"
_BETWEEN_PURGES_S = 600


class SqlLinks(Links):
    """As `Links`, by statements."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, link: Link) -> None:
        checked_names(id=link.id, org=link.org, session_id=link.session_id, key_id=link.key_id)
        checked(target=link.target)
        try:
            await self._database.write((_INSERT, _values(link)))
        except Duplicate:
            raise AlreadyExists("link: its id or ticket is taken") from None

    async def look(self, digest: bytes) -> Link | None:
        rows = await self._database.read(f"{_SELECT} WHERE {_GOOD}", digest.hex(), _now())
        return _link(rows[0]) if rows else None

    async def take(self, digest: bytes) -> Link | None:
        (rows,) = await self._database.write((_TAKE, (digest.hex(), _now())))
        return _link(rows[0]) if rows else None

    async def by_id(self, link_id: str) -> Link | None:
        if not is_storable(link_id):
            return None
        rows = await self._database.read(f"{_SELECT} WHERE id = $1", link_id)
        return _link(rows[0]) if rows else None

    async def revoke(self, link_id: str) -> bool:
        if not is_storable(link_id):
            return False
        statement = "DELETE FROM links WHERE id = $1 RETURNING id", (link_id,)
        (rows,) = await self._database.write(statement)
        return bool(rows)

    async def keep_purging(self) -> None:
        """Delete, now and then, what has expired."""
        while True:
            await asyncio.sleep(_BETWEEN_PURGES_S)
            try:
                await self._database.write(("DELETE FROM links WHERE expires_at <= $1", (_now(),)))
            except StoreUnavailable:
                continue


def _values(link: Link) -> tuple[str | int | None, ...]:
    return (
        link.id,
        link.digest.hex(),
        link.org,
        link.session_id,
        link.key_id,
        link.target,
        moment(link.created_at),
        moment(link.expires_at),
        link.max_uses,
        link.uses,
    )


def _link(row: Row) -> Link:
    id_, digest, org, session_id, key_id, target, created_at, expires_at, max_uses, uses = row
    return Link(
        id=id_,
        digest=bytes.fromhex(digest),
        org=org,
        session_id=session_id,
        key_id=key_id,
        target=target,
        created_at=datetime_of(created_at),
        expires_at=datetime_of(expires_at),
        max_uses=max_uses,
        uses=uses,
    )


def _now() -> int:
    return moment(datetime.now(UTC))
