"""The keys in a database."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import orjson

from gateway.domain.errors import AlreadyExists, StoreUnavailable
from gateway.domain.model import Scope
from gateway.domain.records import StoredKey
from gateway.store.base import Keys
from gateway.store.database import Database, Duplicate, Row
from gateway.store.recent import Recent
from gateway.store.values import (
    checked,
    checked_names,
    datetime_of,
    is_storable,
    moment,
    optional_datetime,
    optional_moment,
)

_COLUMNS = "id, org, digest, scopes, created_at, sessions, expires_at, revoked_at, last_used_at"
_INSERT = f"INSERT INTO api_keys ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
_SELECT = f"SELECT {_COLUMNS} FROM api_keys"
_REVOKE = """
UPDATE api_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL RETURNING id"""
_ROTATE = "UPDATE api_keys SET digest = $2 WHERE id = $1 AND revoked_at IS NULL RETURNING id"
_USE = """
UPDATE api_keys SET last_used_at = $2
WHERE id = $1 AND (last_used_at IS NULL OR last_used_at <= $3)"""
_BETWEEN_USES_S = 60


class SqlKeys(Keys):
    """As `Keys`, by statements."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._recent: Recent[bytes, StoredKey] = Recent()
        self._used: dict[str, datetime] = {}
        self._in_use = asyncio.Event()

    async def create(self, key: StoredKey) -> None:
        checked_names(id=key.id, org=key.org)
        checked(sessions="".join(key.sessions))
        await self._written(_INSERT, *_values(key))

    async def by_digest(self, digest: bytes) -> StoredKey | None:
        async def look_up() -> StoredKey | None:
            return await self._one(f"{_SELECT} WHERE digest = $1", digest.hex())

        return await self._recent.get(digest, look_up)

    async def by_id(self, key_id: str) -> StoredKey | None:
        return await self._one(f"{_SELECT} WHERE id = $1", key_id)

    async def all(self, org: str | None = None) -> Sequence[StoredKey]:
        if org is None:
            rows = await self._database.read(_SELECT)
        elif is_storable(org):
            rows = await self._database.read(f"{_SELECT} WHERE org = $1", org)
        else:
            rows = ()
        return sorted(map(_key, rows), key=lambda key: key.id)

    async def revoke(self, key_id: str) -> bool:
        return is_storable(key_id) and await self._written(_REVOKE, key_id, moment(_now()))

    async def rotate(self, key_id: str, digest: bytes) -> bool:
        return is_storable(key_id) and await self._written(_ROTATE, key_id, digest.hex())

    def note_use(self, key_id: str) -> None:
        self._used[key_id] = _now()
        self._in_use.set()

    async def keep_writing_uses(self) -> None:
        """Write what `note_use` was told, the first of it at once."""
        while True:
            await self._in_use.wait()
            self._in_use.clear()
            used, self._used = self._used, {}
            minute = _BETWEEN_USES_S * 1_000_000
            try:
                for key_id, at in used.items():
                    values = (key_id, moment(at), moment(at) - minute)
                    await self._database.write((_USE, values))
            except StoreUnavailable:
                self._used = {**used, **self._used}
                self._in_use.set()
            await asyncio.sleep(_BETWEEN_USES_S)

    async def _one(self, text: str, value: str) -> StoredKey | None:
        rows = await self._database.read(text, value) if is_storable(value) else ()
        return _key(rows[0]) if rows else None

    async def _written(self, text: str, *values: str | int | None) -> bool:
        try:
            (rows,) = await self._database.write((text, values))
        except Duplicate:
            raise AlreadyExists("key: its id, or the key itself, is taken") from None
        self._recent.forget()
        return bool(rows)


def _values(key: StoredKey) -> tuple[str | int | None, ...]:
    return (
        key.id,
        key.org,
        key.digest.hex(),
        " ".join(sorted(key.scopes)),
        moment(key.created_at),
        orjson.dumps(key.sessions).decode(),
        optional_moment(key.expires_at),
        optional_moment(key.revoked_at),
        optional_moment(key.last_used_at),
    )


def _key(row: Row) -> StoredKey:
    id_, org, digest, scopes, created_at, sessions, expires_at, revoked_at, last_used_at = row
    return StoredKey(
        id=id_,
        org=org,
        digest=bytes.fromhex(digest),
        scopes=frozenset(map(Scope, scopes.split())),
        created_at=datetime_of(created_at),
        sessions=tuple(orjson.loads(sessions)),
        expires_at=optional_datetime(expires_at),
        revoked_at=optional_datetime(revoked_at),
        last_used_at=optional_datetime(last_used_at),
    )


def _now() -> datetime:
    return datetime.now(UTC)
