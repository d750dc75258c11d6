"""The server of one workspace, asked as a profile says."""

import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Final, NoReturn
from urllib.parse import unquote

import aiohttp
from pydantic import TypeAdapter

from gateway.domain.errors import (
    NotADirectory,
    PathNotFound,
    ProtocolFault,
    Unreachable,
    Unsupported,
    WorkspaceGone,
)
from gateway.domain.model import Entry, Kind
from gateway.domain.paths import WorkspacePath
from gateway.executors.base import Proof
from gateway.executors.engines.remote_stream import Body
from gateway.executors.engines.reply import Reply
from gateway.executors.engines.rest import RestEngine, refusal
from gateway.executors.http_profile.answers import VERDICTS, children, content_of, entry_of
from gateway.executors.http_profile.parts import part_of, range_header
from gateway.executors.http_profile.pointer import MISSING, found
from gateway.executors.http_profile.profile import Archive, Content, Means, Operation, Profile
from gateway.executors.http_profile.request import Request

_JSON: Final = TypeAdapter[object](object)
_ANY_STATUS: Final = range(200, 600)
_NO_SUCH_HOST: Final = (socket.EAI_NONAME, socket.EAI_NODATA)
_MOST_OF_AN_ERROR: Final = 64 * 1024  # bytes
_PIECE: Final = 256 * 1024  # bytes


class Unclear(Exception):
    """The backend's error has several causes."""


NOT_THERE: Final = (PathNotFound, NotADirectory, Unclear)
"""What may be said of a path because it, or something above it, is not there."""


class Backend:
    """One workspace's server; *root* is the workspace's directory there.

    *own_host*: no other workspace is at that server. Everything here raises the verdicts that the
    profile's rules name, `Unclear`, or an `Outage`.
    """

    def __init__(
        self, profile: Profile, engine: RestEngine, workspace: str, root: str, *, own_host: bool
    ) -> None:
        self.profile = profile
        self._engine = engine
        self._workspace = workspace
        self._root = root
        self._own_host = own_host

    def absolute(self, path: WorkspacePath) -> str:
        """Where *path* is in the sandbox; raise `Unsupported` if that cannot be said to it."""
        try:
            below = path.raw.decode("utf-8")
        except UnicodeDecodeError:
            raise Unsupported("the executor has no names that are not UTF-8") from None
        return f"{self._root}/{below}" if below else self._root or "/"

    async def listed(self, directory: WorkspacePath) -> Sequence[Entry]:
        """The direct children of *directory*, as the listing shows them."""
        listing = self.profile.list
        if listing is None:
            raise Unsupported("the executor cannot list")
        data = await self._json(Operation.LIST, listing.request, directory)
        return await self._engine.parsed(children, data, listing, directory)

    async def has_workspace(self) -> bool | None:
        """Whether the workspace is there; None if the profile has no way to tell."""
        try:
            if self.profile.list is not None:
                await self.listed(WorkspacePath.ROOT)
            elif self.profile.exists is not None:
                await self._json(Operation.EXISTS, self.profile.exists, WorkspacePath.ROOT)
            else:
                return None
        except NOT_THERE:
            return False
        return True

    async def stat(self, path: WorkspacePath) -> Entry:
        """The entry at *path*, links followed."""
        stat = self.profile.stat
        assert stat is not None, "asked for only where the profile has it"
        data = await self._json(Operation.STAT, stat.request, path)
        return entry_of(found(data, stat.entry), stat.fields, path)

    @asynccontextmanager
    async def content(
        self, path: WorkspacePath, first: int, count: int | None
    ) -> AsyncIterator[Body]:
        """The file at *path*, from *first* on if the backend can leave out what is before."""
        content = self.profile.download.content
        if content is not None:
            yield await self._told(path, content)
            return
        asked = range_header(first, count) if self.profile.capabilities.ranges else None
        async with self._downloaded(path, asked) as reply:
            if reply.status != 416:
                yield self._body(path, reply, first)
                return
        async with self._downloaded(path, None) as reply:  # it ends before what was asked for
            yield self._body(path, reply, 0)

    @asynccontextmanager
    async def tar(
        self, archive: Archive, path: WorkspacePath, without: Sequence[str]
    ) -> AsyncIterator[Reply]:
        """The tar of the directory *path*; what has a name of *without* need not be in it."""
        query = [(archive.exclude, name) for name in without] if archive.exclude else []
        async with self._asked(archive.request, path, {}, query) as reply:
            if reply.status != 200:
                await self._refuse(Operation.ARCHIVE, reply)
            said = [] if archive.of is None else reply.headers.getall(archive.of, [])
            if any(unquote(of) != self.absolute(path) for of in said):
                raise Unsupported("the executor packs another directory than was asked for")
            yield reply

    async def _told(self, path: WorkspacePath, content: Content) -> Body:
        data = await self._json(Operation.DOWNLOAD, self.profile.download.request, path)
        told = await self._engine.parsed(content_of, data, content)
        entry = Entry(path, Kind.FILE, len(told), None, mode=0)
        return Body(entry, 0, len(told), _in_pieces(told))

    @asynccontextmanager
    async def _downloaded(self, path: WorkspacePath, asked: str | None) -> AsyncIterator[Reply]:
        download = self.profile.download
        headers = {} if asked is None else {"Range": asked}
        wanted = (200,) if asked is None else (200, 206, 416)
        async with self._asked(download.request, path, headers) as reply:
            if reply.status not in wanted:
                await self._refuse(Operation.DOWNLOAD, reply)
            elif reply.status != 416 and download.type not in (None, reply.content_type):
                raise ProtocolFault("the executor's answer is not a file")
            yield reply

    def _body(self, path: WorkspacePath, reply: Reply, asked: int) -> Body:
        declared = self.profile.capabilities
        if reply.length is None and declared.proof is Proof.LENGTH:
            raise ProtocolFault("the executor's answer does not say how long it is")
        first, size = 0, reply.length
        if reply.status == 206:
            first, size = part_of(reply.headers.getall("Content-Range", []), asked, reply.length)
        entry = Entry(path, Kind.FILE, size, _changed_ns(reply), mode=0)
        if declared.versions:
            entry = entry._replace(version=_strong_tag(reply))
        return Body(entry, first, reply.length, reply.chunks(), reply.inflow)

    async def _json(self, operation: Operation, request: Request, path: WorkspacePath) -> object:
        async with self._asked(request, path, {}) as reply:
            if reply.status != 200:
                await self._refuse(operation, reply)
            data = await reply.json(_JSON)
            self._judge(operation, reply.status, data)
            return data

    async def _refuse(self, operation: Operation, reply: Reply) -> NoReturn:
        """Raise what the error *reply* means by the profile's rules, or by its status."""
        data: object = MISSING
        if any(rule.answer is not None for rule in self.profile.errors):
            try:
                data = await reply.json(_JSON, _MOST_OF_AN_ERROR)
            except ProtocolFault:
                data = MISSING  # an error need not be JSON; then its status alone counts
        self._judge(operation, reply.status, data)
        raise refusal(reply.status)

    def _judge(self, operation: Operation, status: int, data: object) -> None:
        for rule in self.profile.errors:
            if rule.applies(operation, status, data):
                if rule.means is Means.UNCLEAR:
                    raise Unclear
                raise VERDICTS[rule.means]()

    @asynccontextmanager
    async def _asked(
        self,
        request: Request,
        path: WorkspacePath,
        headers: Mapping[str, str],
        query: Sequence[tuple[str, str]] = (),
    ) -> AsyncIterator[Reply]:
        ask = request.filled(self.absolute(path), self._workspace)
        ask = replace(ask, headers={**ask.headers, **headers}, query=[*ask.query, *query])
        async with AsyncExitStack() as stack:
            try:
                reply = await stack.enter_async_context(self._engine.ask(ask, _ANY_STATUS))
            except Unreachable as exc:
                if self._own_host and _nobody_knows_the_host(exc):
                    raise WorkspaceGone("the executor does not have the workspace") from exc
                raise
            yield reply


def _nobody_knows_the_host(exc: Unreachable) -> bool:
    cause = exc.__cause__
    return isinstance(cause, aiohttp.ClientConnectorDNSError) and cause.errno in _NO_SUCH_HOST


def _strong_tag(reply: Reply) -> str | None:
    tags = reply.headers.getall("ETag", [])
    strong = len(tags) == 1 and len(tags[0]) > 2 and tags[0][0] == tags[0][-1] == '"'
    return tags[0][1:-1] if strong else None


def _changed_ns(reply: Reply) -> int | None:
    try:
        return int(parsedate_to_datetime(reply.headers["Last-Modified"]).timestamp()) * 10**9
    except (KeyError, ValueError, OverflowError):
        return None


async def _in_pieces(content: bytes) -> AsyncIterator[bytes]:
    for first in range(0, len(content), _PIECE):
        yield content[first : first + _PIECE]
