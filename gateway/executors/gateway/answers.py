"""What another gateway's answers to a download say of what they bring."""

import re
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from functools import lru_cache

from gateway.domain.errors import ProtocolFault, StreamBroken
from gateway.domain.model import Entry, Kind
from gateway.domain.paths import WorkspacePath
from gateway.executors.engines.remote_stream import Body, RemoteStream
from gateway.executors.engines.reply import Reply
from gateway.executors.engines.rest import Ask, RestEngine
from gateway.executors.gateway.refusals import REFUSALS, Refusals, refusal

LONGEST_TARGET = 15 * 1024  # bytes; a gateway refuses request lines of more than 16 KiB

_MODE = 0o644  # the routes tell none
_NOWHERE = -1  # where a body without bytes stands: every position is asked for by itself
_TAG = re.compile(r'"([!#-~]{1,128})"')
_PART = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")
_DATE = "%a, %d %b %Y %H:%M:%S GMT"


@asynccontextmanager
async def answered(
    engine: RestEngine,
    ask: Ask,
    expected: Collection[int] = (200,),
    refusals: Refusals = REFUSALS,
) -> AsyncIterator[Reply]:
    """Yield what `answer` gives, as long as it is needed."""
    with closing(await answer(engine, ask, expected, refusals)) as reply:
        yield reply


async def answer(
    engine: RestEngine,
    ask: Ask,
    expected: Collection[int] = (200,),
    refusals: Refusals = REFUSALS,
) -> Reply:
    """The answer, to be closed, if its status is *expected*; else raise what it stands for."""
    reply = await engine.reply(ask, {*expected, *(status for status, _ in refusals)})
    if reply.status in expected:
        return reply
    with closing(reply):
        raise await refusal(reply, refusals)


def file_body(reply: Reply, path: WorkspacePath, asked: int) -> Body:
    """The part of the file at *path* that *reply* brings; *asked* is the position asked for.

    Raise `ProtocolFault` if its headers do not agree with each other, or with that.
    """
    if reply.status == 304:
        return Body(entry_of(reply, path, None), _NOWHERE, 0, nothing())
    if reply.status == 200:
        return Body(
            entry_of(reply, path, reply.length), 0, reply.length, reply.chunks(), reply.inflow
        )
    part = _PART.fullmatch(header(reply, "Content-Range") or "")
    if part is None:
        raise strange("Content-Range")
    first, last, size = map(int, part.groups())
    if first != asked or not first <= last < size or reply.length != last - first + 1:
        raise strange("Content-Range")
    return Body(entry_of(reply, path, size), first, reply.length, reply.chunks(), reply.inflow)


async def begin(stream: RemoteStream, body: Body) -> None:
    """Wait for the first byte of *body*: until it is there, another executor can still be asked."""
    if body.count == 0:
        return
    try:
        await stream.read(body.first, 1)
    except StreamBroken as exc:
        raise ProtocolFault(str(exc)) from exc


def span(first: int, count: int | None) -> Mapping[str, str]:
    """The header that asks for *count* bytes, but at least one, from *first*; None: to the end."""
    last = "" if count is None else first + max(count, 1) - 1
    return {"Range": f"bytes={first}-{last}"}


def entry_of(reply: Reply, path: WorkspacePath, size: int | None) -> Entry:
    """What *reply* tells of a file of that *size*; raise `ProtocolFault` for what is malformed."""
    return Entry(path, Kind.FILE, size, _mtime_ns(reply), _MODE, version=_version(reply))


def _version(reply: Reply) -> str | None:
    """The inside of the tag: what makes a tag of it again makes the same one."""
    tag = header(reply, "ETag")
    if tag is None or tag.startswith("W/"):
        return None
    found = _TAG.fullmatch(tag)
    if found is None:
        raise strange("ETag")
    return found[1]


def _mtime_ns(reply: Reply) -> int | None:
    text = header(reply, "Last-Modified")
    return None if text is None else _moment_ns(text)


@lru_cache(4096)
def _moment_ns(text: str) -> int:
    try:
        moment = datetime.strptime(text, _DATE).replace(tzinfo=UTC)
    except ValueError:
        raise strange("Last-Modified") from None
    return int(moment.timestamp()) * 10**9


def header(reply: Reply, name: str) -> str | None:
    """The header, if there is one; raise `ProtocolFault` if there are more."""
    values = reply.headers.getall(name, [])
    if len(values) > 1:
        raise strange(name)
    return values[0] if values else None


def strange(name: str) -> ProtocolFault:
    """The fault of a header that cannot be meant so."""
    fault = ProtocolFault("the executor's answer contradicts itself")
    fault.__cause__ = ValueError(name)
    return fault


async def nothing() -> AsyncIterator[bytes]:
    """The bytes of an answer that brings none."""
    return
    yield b""
