"""Shannon's workspace files: a listing, and raw files below it (`api.md` section 3)."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from stat import S_ISDIR
from typing import ClassVar
from weakref import WeakKeyDictionary

import orjson
from aiohttp import web

from gateway.domain.model import Entry, Principal, Row, Rows, SessionId, rows_of
from gateway.domain.paths import WorkspacePath, name_to_text
from gateway.http.answers import Response
from gateway.http.dialects import shannon_sdk
from gateway.http.dialects.base import (
    Dialect,
    Route,
    path_parameter,
    rooted_directory,
    session_id_parameter,
)
from gateway.http.listings import Form, send_listing, where_it_goes_on
from gateway.http.queries import Query
from gateway.http.responses import send_file, wanted
from gateway.service.selection import Selector
from gateway.service.workspaces import Listed, Listing, Workspaces

_FILES = "/api/v1/sessions/{session_id}/files"
_FIRST_SECOND = -62_135_596_800  # 0001-01-01T00:00:00Z
_LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59Z

# A small directory that has not changed is listed with the same object again.
_texts: WeakKeyDictionary[Rows, bytes] = WeakKeyDictionary()


class Shannon(Dialect):
    """The documented form, and for requests that mark themselves so the SDK's older one."""

    name: ClassVar[str] = "shannon"

    def __init__(self, workspaces: Workspaces) -> None:
        self._workspaces = workspaces
        self._plain = self._parse_listing("")

    def routes(self) -> Sequence[Route]:
        """The listing and the download."""
        return (
            Route(_FILES, "/api/v1/sessions/{session_id:[^/]+}/files", self.list_files),
            Route(
                _FILES + "/{path}",
                r"/api/v1/sessions/{session_id:[^/]+}/files/{path:[\s\S]*}",
                self.download,
            ),
        )

    async def list_files(self, request: web.BaseRequest, principal: Principal) -> Response:
        """`GET …/files`: the entries of a directory, or all that is below it."""
        session_id = session_id_parameter(request)
        raw_query = request.rel_url.raw_query_string
        wanted, detail = self._parse_listing(raw_query) if raw_query else self._plain
        form: Form = ListingForm(session_id, wanted.path, detail=detail)
        if shannon_sdk.asks(request):
            form = shannon_sdk.ListingForm()
        async with self._workspaces.listing(principal, session_id, wanted) as listing:
            return await send_listing(request, listing, form)

    async def download(self, request: web.BaseRequest, principal: Principal) -> Response:
        """`GET …/files/{path}`: the file's bytes."""
        session_id = session_id_parameter(request)
        path = path_parameter(request)
        async with self._workspaces.open(principal, session_id, path, wanted(request)) as stream:
            if shannon_sdk.asks(request):
                return await shannon_sdk.send_file(request, stream)
            return await send_file(request, stream)

    def _parse_listing(self, raw_query: str) -> tuple[Listed, bool]:
        query = Query(raw_query)
        raw = query.raw("path") or b""
        bounds = self._workspaces.bounds
        recursive = query.boolean("recursive")
        wanted = Listed(
            path=rooted_directory(raw),
            depth=query.number("depth", 1, bounds.depth) or (None if recursive else 1),
            selection=Selector.parse(query.text("glob"), query.texts("exclude")),
            limit=query.number("limit", 1, bounds.list_entries),
            cursor=query.text("cursor"),
        )
        return wanted, query.boolean("detail")


class ListingForm:
    """The documented answer of a listing; *detail* adds what only another gateway needs."""

    def __init__(self, session_id: SessionId, path: WorkspacePath, *, detail: bool = False) -> None:
        self._has_detail = detail
        self._opening = orjson.dumps({"session_id": session_id, "path": path.rooted})

    def opening(self) -> bytes:
        """The session, the directory listed, and the start of its entries."""
        return self._opening[:-1] + b',"files":['

    def entries(self, batch: Sequence[Entry]) -> bytes:
        """The entries with rooted paths."""
        if self._has_detail:
            return ",".join(map(_detailed, _written(rows_of(batch)), batch)).encode()
        text = _texts.get(batch) if isinstance(batch, Rows) else None
        if text is None:
            text = ",".join(_written(rows_of(batch))).encode()
            if isinstance(batch, Rows):
                _texts[batch] = text
        return text

    def closing(self, listing: Listing) -> bytes:
        """The end, and where it goes on if it does."""
        return b"]" + where_it_goes_on(listing) + b"}"


def _written(rows: Iterable[Row]) -> Iterator[str]:
    """The rows as JSON; by hand, which takes half as long as making dictionaries for orjson."""
    directory: tuple[bytes, ...] | None = None
    start = ""
    for above, name, mode, size, mtime_ns, is_link, problem, _ in rows:
        if above is not directory:
            directory = above
            start = _quoted(WorkspacePath((*above, b"")).rooted)[:-1]
        text = _quoted(name_to_text(name))[1:]
        modified_at = "null" if mtime_ns is None else f'"{_iso(mtime_ns // 1_000_000_000)}"'
        more = ',"is_symlink":true' if is_link else ""
        if problem:
            more += f',"error":{_quoted(problem)}'
        yield (
            f'{{"name":"{text},"path":{start}{text},"size":{size or 0},'
            f'"is_dir":{"true" if S_ISDIR(mode) else "false"},'
            f'"modified_at":{modified_at}{more}}}'
        )


def _quoted(text: str) -> str:
    return orjson.dumps(text).decode()


def _iso(seconds: int) -> str:
    """ISO 8601 in UTC; a time before the year 1 or after 9999 is shown as the nearest of them."""
    if not _FIRST_SECOND <= seconds <= _LAST_SECOND:
        seconds = _FIRST_SECOND if seconds < 0 else _LAST_SECOND
    minute, second = divmod(seconds, 60)
    return f"{_iso_minute(minute)}{second:02}Z"


def _detailed(written: str, entry: Entry) -> str:
    return f'{written[:-1]},"kind":"{entry.kind.value}","mode":"{entry.mode:04o}"}}'


@functools.lru_cache(4096)
def _iso_minute(minute: int) -> str:
    # Files that belong together are often as old as each other, give or take seconds.
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)
    return moment.strftime("%Y-%m-%dT%H:%M:").rjust(17, "0")
