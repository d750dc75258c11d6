"""The values that travel between the floors: who asks, for which session, and what lies there."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum
from fnmatch import fnmatchcase
from stat import S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IMODE
from typing import NamedTuple, NewType, overload

from gateway.domain.errors import BadSessionId, ScopeMissing
from gateway.domain.paths import WorkspacePath

_SESSION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")

ANY_SESSION = ("*",)

SessionId = NewType("SessionId", str)


def parse_session_id(text: str) -> SessionId:
    """Return *text* as the session id it is; raise `BadSessionId` if it is none."""
    if _SESSION_ID.fullmatch(text) is None:
        raise BadSessionId("invalid session id")
    return SessionId(text)


class Scope(StrEnum):
    """What a key may do."""

    SESSIONS_READ = "sessions:read"
    SESSIONS_WRITE = "sessions:write"
    FILES_READ = "files:read"
    ARCHIVES_READ = "archives:read"
    LINKS_WRITE = "links:write"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """The holder of a valid key, as far as the gateway needs to know it.

    *sessions* are shell patterns (`team-*`); a session that matches none does not exist for it.
    """

    key_id: str
    org: str
    scopes: frozenset[Scope]
    sessions: tuple[str, ...] = ANY_SESSION
    expires: datetime | None = field(default=None, compare=False)

    def require(self, scope: Scope) -> None:
        """Raise `ScopeMissing` unless the key has *scope*; `admin` has every scope."""
        if scope not in self.scopes and Scope.ADMIN not in self.scopes:
            raise ScopeMissing(f"this key lacks the scope {scope}")

    def may_see(self, session_id: str) -> bool:
        """Whether one of the key's session patterns matches."""
        return self.sessions == ANY_SESSION or any(
            fnmatchcase(session_id, pattern) for pattern in self.sessions
        )


class Kind(Enum):
    """What an entry is. A link that stays inside is of the kind it leads to."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"  # leaves the workspace, dangles or loops
    OTHER = "other"  # FIFO, socket, device
    UNKNOWN = "unknown"


class Entry(NamedTuple):
    """One thing in a workspace.

    *size* in bytes is never a link's own length; it and *mtime_ns* are None if they are unknown.
    *version* is a strong validator: equal versions mean equal bytes; listings go without.
    *problem* says why an entry is not all it should be: a directory that could not be entered, for
    one.
    """

    path: WorkspacePath
    kind: Kind
    size: int | None
    mtime_ns: int | None
    mode: int
    is_link: bool = False
    version: str | None = None
    problem: str | None = None


Row = tuple[tuple[bytes, ...], bytes, int, int | None, int | None, bool, str | None, int | None]
"""An entry as plain values: the path of the directory it is in, its name, its kind and mode as
`st_mode` has them (0: unknown), size, mtime_ns, is_link, problem, and where it goes into an archive
what `Member.version` will be.
"""

_KINDS = {
    S_IFREG: Kind.FILE,
    S_IFDIR: Kind.DIRECTORY,
    S_IFLNK: Kind.SYMLINK,
    S_IFIFO: Kind.OTHER,
    0: Kind.UNKNOWN,
}
_FORMATS = {kind: bits for bits, kind in _KINDS.items()}


class Rows(Sequence[Entry]):
    """Entries that are made when they are asked for: of many thousands, most never are."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, which: int) -> Entry: ...

    @overload
    def __getitem__(self, which: slice) -> "Rows": ...

    def __getitem__(self, which: int | slice) -> "Entry | Rows":
        if isinstance(which, slice):
            return Rows(self.rows[which])
        return _entry_of(self.rows[which])

    def __iter__(self) -> Iterator[Entry]:
        return map(_entry_of, self.rows)


def rows_of(entries: Sequence[Entry]) -> list[Row]:
    """The entries as plain values, for whoever would only take them apart."""
    return entries.rows if isinstance(entries, Rows) else [_row_of(entry) for entry in entries]


def _entry_of(row: Row) -> Entry:
    above, name, mode, size, mtime_ns, is_link, problem, _ = row
    kind = _KINDS.get(S_IFMT(mode), Kind.OTHER)
    path = WorkspacePath((*above, name))
    return Entry(path, kind, size, mtime_ns, S_IMODE(mode), is_link, None, problem)


def _row_of(entry: Entry) -> Row:
    path, kind, size, mtime_ns, mode, is_link, _, problem = entry
    st_mode = _FORMATS[kind] | mode
    return path.parts[:-1], path.parts[-1], st_mode, size, mtime_ns, is_link, problem, None
