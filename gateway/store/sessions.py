"""The registered sessions in a database."""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import orjson

from gateway.domain.errors import AlreadyExists, BadParameter
from gateway.domain.model import SessionId
from gateway.domain.records import Session, SessionPage
from gateway.store.base import Sessions
from gateway.store.database import Database, Duplicate, Row, Statement
from gateway.store.recent import Recent
from gateway.store.values import checked, checked_names, datetime_of, is_storable, moment

_COLUMNS = (
    "id, org, created_at, status, external_id, name, agent_id, version_id, storage_binding_id,"
    " internet_access, last_message_id, last_message_status, metadata, executor, workspace"
)
_INSERT = f"""
INSERT INTO sessions ({_COLUMNS})
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"""
_FIND = f"""
SELECT {_COLUMNS} FROM sessions WHERE id = $1 OR (org = $2 AND external_id = $1)
ORDER BY CASE WHEN org <> $2 THEN 2 WHEN id <> $1 THEN 1 ELSE 0 END LIMIT 1"""
_CLAIMED = """
SELECT 1 FROM sessions WHERE id = $1
UNION ALL SELECT 1 FROM sessions WHERE workspace = $1 AND length(workspace) <= 128
UNION ALL SELECT 1 FROM former_names WHERE name = $1 LIMIT 1"""
_LEFT = f"""
SELECT {_COLUMNS} FROM sessions WHERE status = $1 AND created_at < $2
ORDER BY created_at LIMIT $3"""
_UPDATE = """
UPDATE sessions SET name = $3, status = $4, last_message_id = $5, last_message_status = $6,
executor = $7, workspace = $8 WHERE id = $1 AND status = $2 RETURNING id"""
# Also keeps others from changing the workspace of one that is about to be deleted.
_NAME_WORKSPACE = "UPDATE sessions SET workspace = coalesce(workspace, id) WHERE id = $1"
_KEEP_NAMES = """
INSERT INTO former_names (name) SELECT id FROM sessions WHERE id = $1
UNION SELECT workspace FROM sessions WHERE id = $1 AND length(workspace) <= 128
ON CONFLICT DO NOTHING"""
_MOST_FILTERS = 32
_CURSOR = re.compile(r"([0-9]{1,18})\.([A-Za-z0-9_-]{1,128})")


class SqlSessions(Sessions):
    """As `Sessions`, by statements."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._recent: Recent[tuple[str, str], Session] = Recent()

    async def create(self, session: Session) -> None:
        _check(session)
        labels: list[Statement] = [
            (
                "INSERT INTO session_labels (label, created_at, session_id) VALUES ($1, $2, $3)",
                (label, moment(session.created_at), session.id),
            )
            for label in _labels(session.org, session.metadata)
        ]
        # What late writers have left of one that was called the same, and perhaps was another's.
        left: list[Statement] = [
            (f"DELETE FROM {table} WHERE session_id = $1 RETURNING session_id", (session.id,))
            for table in ("links", "ledgers")
        ]
        try:
            await self._database.write((_INSERT, _values(session)), *labels, *left)
        except Duplicate:
            raise AlreadyExists("session: its id or external_id is taken") from None
        self._recent.forget()

    async def find(self, reference: str, org: str) -> Session | None:
        if not (is_storable(reference) and is_storable(org)):
            return None

        async def look_up() -> Session | None:
            rows = await self._database.read(_FIND, reference, org)
            return _session(rows[0]) if rows else None

        # Not another organisation's: it would be refused faster than one that does not exist.
        return await self._recent.get((reference, org), look_up, lambda found: found.org == org)

    async def claimed(self, reference: str) -> bool:
        return is_storable(reference) and bool(await self._database.read(_CLAIMED, reference))

    async def page(
        self,
        org: str,
        *,
        limit: int,
        cursor: str | None = None,
        agent_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> SessionPage:
        metadata = metadata or {}
        if len(metadata) > _MOST_FILTERS:
            raise BadParameter(f"metadata: no more than {_MOST_FILTERS} filters at once")
        texts = [org, agent_id or "", *metadata, *metadata.values()]
        before = None if cursor is None else _decoded(cursor)
        if not all(map(is_storable, texts)):
            return SessionPage((), None)
        text, values = page_query(org, agent_id, metadata, before, limit + 1)
        rows = await self._database.read(text, *values)
        sessions = tuple(_session(row) for row in rows[:limit])
        more = len(rows) > limit and limit > 0
        return SessionPage(sessions, _encoded(sessions[-1]) if more else None)

    async def left(self, status: str, before: datetime, limit: int) -> Sequence[Session]:
        rows = await self._database.read(_LEFT, status, moment(before), limit)
        return [_session(row) for row in rows]

    async def update(self, before: Session, after: Session) -> bool:
        _check(after)
        changes = (
            after.name,
            after.status,
            after.last_message_id,
            after.last_message_status,
            after.executor,
            after.workspace,
        )
        (rows,) = await self._database.write((_UPDATE, (before.id, before.status, *changes)))
        self._recent.forget()
        return bool(rows)

    async def delete(self, session_id: SessionId) -> bool:
        _, _, gone, *_ = await self._database.write(
            (_NAME_WORKSPACE, (session_id,)),
            (_KEEP_NAMES, (session_id,)),
            *(
                (f"DELETE FROM {table} WHERE {column} = $1 RETURNING {column}", (session_id,))
                for table, column in (
                    ("sessions", "id"),
                    ("links", "session_id"),
                    ("ledgers", "session_id"),
                )
            ),
        )
        self._recent.forget()
        return bool(gone)


def page_query(
    org: str,
    agent_id: str | None,
    metadata: Mapping[str, str],
    before: tuple[int, str] | None,
    most: int,
) -> Statement:
    """The statement for the newest sessions; with *before*, those older than it."""
    values: list[str | int | None] = []

    def value(of: str | int) -> str:
        values.append(of)
        return f"${len(values)}"

    if metadata:
        # Labels hold what the order goes by, so that of few sessions among many only those are
        # read; and they are of one organisation: to name it, too, would lead PostgreSQL astray.
        first, *others = _labels(org, metadata)
        tables = "session_labels l JOIN sessions s ON s.id = l.session_id"
        of, key = "l", "l.session_id"
        where = [f"l.label = {value(first)}"]
        where += [
            "EXISTS (SELECT 1 FROM session_labels o WHERE o.session_id = l.session_id"
            f" AND o.created_at = l.created_at AND o.label = {value(label)})"
            for label in others
        ]
    else:
        tables, of, key = "sessions s", "s", "s.id"
        where = [f"s.org = {value(org)}"]
    if agent_id is not None:
        where.append(f"s.agent_id = {value(agent_id)}")
    if before is not None:
        where.append(f"({of}.created_at, {key}) < ({value(before[0])}, {value(before[1])})")
    columns = ", ".join(f"s.{column}" for column in _COLUMNS.split(", "))
    return (
        f"SELECT {columns} FROM {tables} WHERE {' AND '.join(where)}"
        f" ORDER BY {of}.created_at DESC, {key} DESC LIMIT {value(most)}",
        values,
    )


def _labels(org: str, metadata: Mapping[str, str]) -> Iterator[str]:
    for key, value in metadata.items():
        yield hashlib.sha256(orjson.dumps([org, key, value])).hexdigest()


def _check(session: Session) -> None:
    checked_names(
        id=session.id, org=session.org, external_id=session.external_id, agent_id=session.agent_id
    )
    checked(
        status=session.status,
        name=session.name,
        version_id=session.version_id,
        storage_binding_id=session.storage_binding_id,
        last_message_id=session.last_message_id,
        last_message_status=session.last_message_status,
        executor=session.executor,
        workspace=session.workspace,
    )
    for text in (*session.metadata, *session.metadata.values()):
        checked(metadata=text)


def _values(session: Session) -> tuple[str | int | None, ...]:
    return (
        session.id,
        session.org,
        moment(session.created_at),
        session.status,
        session.external_id,
        session.name,
        session.agent_id,
        session.version_id,
        session.storage_binding_id,
        int(session.internet_access),
        session.last_message_id,
        session.last_message_status,
        orjson.dumps(dict(session.metadata)).decode(),
        session.executor,
        session.workspace,
    )


def _session(row: Row) -> Session:
    id_, org, created_at, status, external_id, name, agent_id, version_id, binding, *rest = row
    internet_access, last_message_id, last_message_status, metadata, executor, workspace = rest
    return Session(
        id=id_,
        org=org,
        created_at=datetime_of(created_at),
        status=status,
        external_id=external_id,
        name=name,
        agent_id=agent_id,
        version_id=version_id,
        storage_binding_id=binding,
        internet_access=bool(internet_access),
        last_message_id=last_message_id,
        last_message_status=last_message_status,
        metadata=orjson.loads(metadata),
        executor=executor,
        workspace=workspace,
    )


def _encoded(last: Session) -> str:
    place = f"{moment(last.created_at)}.{last.id}"
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def _decoded(cursor: str) -> tuple[int, str]:
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        place = base64.b64decode(padded, b"-_", validate=True).decode("ascii")
    except (UnicodeError, binascii.Error):
        place = ""
    found = _CURSOR.fullmatch(place)
    if found is None:
        raise BadParameter("cursor: not a cursor of this listing")
    return int(found[1]), found[2]
