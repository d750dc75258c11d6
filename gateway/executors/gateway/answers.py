"""What another gateway's answers to a download say of the file."""

import re
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from gateway.domain.errors import ProtocolFault
from gateway.domain.model import Entry, Kind
from gateway.domain.paths import WorkspacePath
from gateway.executors.engines.remote_stream import Body
from gateway.executors.engines.rest import Ask, Reply, RestEngine
from gateway.executors.gateway.refusals import STATUSES, refusal

_MODE = 0o644  # the routes tell none
_NOWHERE = -1  # where a body without bytes stands: every position is asked for by itself
_TAG = re.compile(r'"([!#-~]{1,128})"')
_PART = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")
_DATE = "%a, %d %b %Y %H:%M:%S GMT"


@asynccontextmanager
async def answered(
    engine: RestEngine, ask: Ask, expected: Collection[int] = (200,)
) -> AsyncIterator[Reply]:
    """Yield the answer if its status is *expected*; else raise what it stands for."""
    async with engine.ask(ask, {*expected, *STATUSES}) as reply:
        if reply.status not in expected:
            raise await refusal(reply)
        yield reply


def file_body(reply: Reply, path: WorkspacePath, asked: int) -> Body:
    """The part of the file at *path* that *reply* brings; *asked* is the position asked for.

    Raise `ProtocolFault` if its headers do not agree with each other, or with that.
    """
    if reply.status == 304:
        return Body(_entry(reply, path, None), _NOWHERE, 0, _nothing())
    if reply.status == 200:
        return Body(_entry(reply, path, reply.length), 0, reply.length, reply.chunks())
    part = _PART.fullmatch(_one(reply, "Content-Range") or "")
    if part is None:
        raise _strange("Content-Range")
    first, last, size = map(int, part.groups())
    if first != asked or not first <= last < size or reply.length != last - first + 1:
        raise _strange("Content-Range")
    return Body(_entry(reply, path, size), first, reply.length, reply.chunks())


def _entry(reply: Reply, path: WorkspacePath, size: int | None) -> Entry:
    return Entry(path, Kind.FILE, size, _mtime_ns(reply), _MODE, version=_version(reply))


def _version(reply: Reply) -> str | None:
    """The inside of the tag: what makes a tag of it again makes the same one."""
    tag = _one(reply, "ETag")
    if tag is None or tag.startswith("W/"):
        return None
    found = _TAG.fullmatch(tag)
    if found is None:
        raise _strange("ETag")
    return found[1]


def _mtime_ns(reply: Reply) -> int | None:
    text = _one(reply, "Last-Modified")
    if text is None:
        return None
    try:
        moment = datetime.strptime(text, _DATE).replace(tzinfo=UTC)
    except ValueError:
        raise _strange("Last-Modified") from None
    return int(moment.timestamp()) * 10**9


def _one(reply: Reply, name: str) -> str | None:
    values = reply.headers.getall(name, [])
    if len(values) > 1:
        raise _strange(name)
    return values[0] if values else None


def _strange(name: str) -> ProtocolFault:
    fault = ProtocolFault("the executor's answer contradicts itself")
    fault.__cause__ = ValueError(name)
    return fault


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
