"""An archive that another gateway makes next to the files, handed on as it comes."""

import re
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from typing import Self
from urllib.parse import quote, urlencode

from gateway.domain.archives import Packing
from gateway.domain.errors import TooLarge, Unsupported
from gateway.domain.model import Entry, Kind
from gateway.domain.paths import WorkspacePath
from gateway.executors.engines.remote_stream import Body, RemoteStream
from gateway.executors.engines.reply import Reply
from gateway.executors.engines.rest import Ask, RestEngine
from gateway.executors.gateway.answers import (
    LONGEST_TARGET,
    answered,
    begin,
    entry_of,
    file_body,
    header,
    nothing,
    span,
    strange,
)
from gateway.executors.gateway.refusals import ARCHIVE_REFUSALS
from gateway.executors.streams import EVERYTHING, ArchiveStream, Packed

_NUMBER = re.compile("[0-9]{1,18}")
_BEHIND = re.compile(r"bytes \*/([0-9]{1,18})")
_MOST = 10**18  # bytes: more than any archive has


class GatewayArchive(ArchiveStream):
    """Of one version, that of the first answer; later ones are asked for with `If-Match`.

    If all of it is wanted, the first answer brings that. Else it is one to HEAD, for which nothing
    is made: until then the client's conditions have not been judged.
    """

    def __init__(self, source: str, engine: RestEngine, path: str, packed: Packed) -> None:
        self.source = source
        self.entry = Entry(WorkspacePath.ROOT, Kind.FILE, None, None, 0o644)
        self._engine = engine
        self._path = path
        self._query = _query(packed.packing)
        self._packed = packed
        self._stream: RemoteStream | None = None
        self._answer = AsyncExitStack()

    @asynccontextmanager
    async def begun(self) -> AsyncIterator[Self]:
        """Have it planned, or the first byte come if all of it is wanted."""
        async with self._answer:
            if self._packed.wanted == EVERYTHING:
                await self._begin({}, 0)
            else:
                async with self._asked("HEAD", {}, {200}) as reply:
                    self._learn(reply)
                    size = _number(reply, "Content-Length")
                    self.entry = entry_of(reply, WorkspacePath.ROOT, size)
            yield self

    async def prepare(self, *, whole: bool) -> None:
        """Have it come; with *whole* as a range, for which it is made first and its length told.

        Raises `ArchiveFailed` if the workspace has changed.
        """
        if self._stream is not None and not (whole and self.entry.size is None):
            return
        await self._answer.aclose()
        first, count = (
            (self._packed.wanted.first, self._packed.wanted.count) if whole else (0, None)
        )
        await self._begin({**(_span(first, count) if whole else {}), **self._same()}, first)
        if whole and self.entry.size is None:
            raise strange("Content-Length")

    async def read(self, first: int, count: int) -> bytes:
        """Return exactly *count* bytes from position *first*."""
        assert self._stream is not None, "it has to be prepared"
        return await self._stream.read(first, count)

    def chunks(self, first: int, count: int | None) -> AsyncIterator[bytes]:
        """Yield exactly *count* bytes from position *first*; None: all, to the proven end."""
        assert self._stream is not None, "it has to be prepared"
        return self._stream.chunks(first, count)

    async def _begin(self, headers: Mapping[str, str], asked: int) -> None:
        body = await self._answer.enter_async_context(self._part(headers, asked))
        stream = RemoteStream(self.source, body, self._later, seekable=True)
        await self._answer.enter_async_context(aclosing(stream))
        await begin(stream, body)
        self._stream, self.entry = stream, body.entry

    def _later(self, first: int, count: int | None) -> AbstractAsyncContextManager[Body]:
        return self._part({**_span(first, count), **self._same()}, first)

    def _same(self) -> Mapping[str, str]:
        return {"If-Match": f'"{self.entry.version}"'}

    def _asked(
        self, method: str, headers: Mapping[str, str], expected: Collection[int]
    ) -> AbstractAsyncContextManager[Reply]:
        ask = Ask(method, self._path, self._query, headers)
        return answered(self._engine, ask, expected, ARCHIVE_REFUSALS)

    @asynccontextmanager
    async def _part(self, headers: Mapping[str, str], asked: int) -> AsyncIterator[Body]:
        expected = {200, 206, 416} if "Range" in headers else {200}
        async with self._asked("GET", headers, expected) as reply:
            if reply.status == 416:  # nothing is there, but that tells the length
                behind = _BEHIND.fullmatch(header(reply, "Content-Range") or "")
                if behind is None:
                    raise strange("Content-Range")
                size = int(behind[1])
                yield Body(self.entry._replace(size=size), size, 0, nothing())
            else:
                self._learn(reply)
                yield file_body(reply, WorkspacePath.ROOT, asked)

    def _learn(self, reply: Reply) -> None:
        """Take in what is told of the archive.

        Raises `ProtocolFault` if that is no archive, or another one, and `TooLarge`.
        """
        if reply.content_type != self._packed.packing.format.media_type:
            raise strange("Content-Type")
        version = entry_of(reply, WorkspacePath.ROOT, None).version
        if version is None or self.entry.version not in (None, version):
            raise strange("ETag")
        self.entries = _number(reply, "X-Archive-Entries")
        self.uncompressed = _number(reply, "X-Archive-Uncompressed-Size")
        self.skipped = _number(reply, "X-Archive-Skipped")
        bounds = self._packed.bounds
        if (self.entries or 0) > bounds.entries or (self.uncompressed or 0) > bounds.bytes:
            raise TooLarge("archive exceeds maximum size or number of entries")


def _span(first: int, count: int | None) -> Mapping[str, str]:
    # From 0 with an end: without one the answer is the whole, before its length is known.
    return span(first, _MOST if (first, count) == (0, None) else count)


def _query(packing: Packing) -> Sequence[tuple[str, str]]:
    """What the archive's route calls *packing*; raise `Unsupported` if that is too long."""
    flags = {
        "gitignore": packing.gitignore,
        "stored": packing.stored,
        "manifest": packing.manifest,
    }
    query = [
        ("format", packing.format.value),
        *(("path", path.relative) for path in packing.paths if path.parts),
        *(("exclude", pattern) for pattern in packing.exclude),
        *((name, "true") for name, is_set in flags.items() if is_set),
    ]
    if len(urlencode(query, quote_via=quote)) > LONGEST_TARGET:
        raise Unsupported("the paths and patterns are too long for their executor")
    return query


def _number(reply: Reply, name: str) -> int | None:
    text = header(reply, name)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text):
        raise strange(name)
    return int(text)
