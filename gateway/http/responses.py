"""Answers that carry workspace bytes: headers, conditions, ranges, digests."""

import base64
import hashlib
import re
import time
from functools import partial

from aiohttp import web

from gateway.domain.errors import BadParameter
from gateway.executors.streams import EVERYTHING, FileStream, Wanted
from gateway.http.answers import Answer, Response, http_date
from gateway.http.conditions import Outcome, etag_of, evaluate, range_applies
from gateway.http.context import EXCHANGE
from gateway.http.disposition import attachment
from gateway.http.errors import PreconditionFailed, RangeNotSatisfiable
from gateway.http.media_types import media_type
from gateway.http.offload import handed_over
from gateway.http.queries import Query
from gateway.http.ranges import ByteRange, Multipart, Unsatisfiable, parse_range
from gateway.http.transfer import Transfer, begun
from gateway.http.turns import TURNS, Turns

_SMALL = 256 * 1024  # bytes: read and sent in one go
HEAD_BYTES = 4096  # bytes that tell the type of a larger file
_FIRST_YEAR_S = -62_135_596_800  # 0001-01-01
_ALGORITHMS = {"sha-256": "sha256", "sha-512": "sha512"}
_WEIGHTS = frozenset(map(str, range(11)))
_PLAIN_RANGE = re.compile(r"bytes=([0-9]{1,18})-([0-9]{0,18})")
_PLAIN_TAG = re.compile(r'"([!#-~]{1,128})"')

_MOST_KNOWN = 4096
_known_types: dict[int, str] = {}  # by the hash of executor, session and path, and version

WORKSPACE_HEADERS = {"Content-Security-Policy": "sandbox; default-src 'none'"}


def wanted(request: web.BaseRequest) -> Wanted:
    """What *request* will most likely read of the file it names; see `Wanted`."""
    headers = request.headers
    held = _PLAIN_TAG.fullmatch(headers.get("If-None-Match", ""))
    unless = held[1] if held else None
    if request.method == "HEAD":
        return Wanted(0, _SMALL, unless, content=False)
    asked = _PLAIN_RANGE.fullmatch(headers["Range"]) if "Range" in headers else None
    if asked is None:
        return Wanted(unless=unless) if unless else EVERYTHING
    first = int(asked[1])
    count = int(asked[2]) - first + 1 if asked[2] else None
    return Wanted(first, count if count is None or count > 0 else None, unless)


async def send_file(request: web.BaseRequest, stream: FileStream) -> Response:
    """Answer with the file's bytes as RFC 9110 asks: conditions first, then ranges.

    Raise `PreconditionFailed`, `RangeNotSatisfiable` or `BadParameter`.
    """
    entry = stream.entry
    etag = None if entry.version is None else etag_of(entry.version)
    modified_at_s = _modified_at_s(entry.mtime_ns)
    headers = request[EXCHANGE].served_by(stream.source, stream.fallback)
    if etag is not None:
        headers["ETag"] = etag
    if modified_at_s is not None:
        headers["Last-Modified"] = http_date(modified_at_s)
    if not_modified(request, etag, modified_at_s):
        return Answer(304, headers=headers)
    size = entry.size
    ranges = None
    if size is not None:
        headers["Accept-Ranges"] = "bytes"
        ranges = ranges_asked(request, etag, modified_at_s, size)
    head = await _head(stream)
    if size is None and len(head) < HEAD_BYTES:
        size = len(head)
    content_type = _media_type(request, stream, head, complete=len(head) == size)
    headers |= WORKSPACE_HEADERS
    headers["Content-Disposition"] = attachment(entry.path.name)
    if request.rel_url.raw_query_string or "Want-Repr-Digest" in request.headers:
        headers |= await _digest(request, stream)
    return await send_body(request, stream, headers, content_type, size, ranges, head)


async def send_body(
    request: web.BaseRequest,
    stream: FileStream,
    headers: dict[str, str],
    content_type: str,
    size: int | None,
    ranges: list[ByteRange] | None,
    head: bytes = b"",
) -> Response:
    """Answer with all of *stream*, or with its *ranges*; *head* is the beginning, if it is known.

    Where the *size* is unknown the end is proven by chunks, which HTTP/1.0 does not have.
    """
    exchange = request[EXCHANGE]
    if exchange.before_content is not None:
        await exchange.before_content()
    if ranges is not None and len(ranges) > 1 and size is not None and stream.seekable:
        return await _send_parts(request, stream, Multipart(ranges, size, content_type), headers)
    headers["Content-Type"] = content_type
    if ranges is None or len(ranges) > 1 or size is None:
        answer = await handed_over(request, stream, headers)
        if answer is not None:
            return answer
        return await _send_span(request, stream, head, 200, 0, size, headers)
    (part,) = ranges
    headers["Content-Range"] = part.content_range(size)
    return await _send_span(request, stream, head, 206, part.first, part.length, headers)


def not_modified(request: web.BaseRequest, etag: str | None, modified_at_s: int | None) -> bool:
    """Whether 304 is the answer; raise `PreconditionFailed` if it is 412."""
    outcome = evaluate(request.method, request.headers, etag, modified_at_s)
    if outcome is Outcome.PRECONDITION_FAILED:
        raise PreconditionFailed("precondition failed")
    return outcome is Outcome.NOT_MODIFIED


def range_counts(request: web.BaseRequest, etag: str | None, modified_at_s: int | None) -> bool:
    """Whether there is a `Range` that is not to be ignored, whatever it says."""
    # RFC 9110 section 14.2: Range is defined for GET alone.
    return (
        request.method == "GET"
        and "Range" in request.headers
        and range_applies(request.headers, etag, modified_at_s, int(time.time()))
    )


def ranges_asked(
    request: web.BaseRequest, etag: str | None, modified_at_s: int | None, size: int
) -> list[ByteRange] | None:
    """The parts that are to be sent, None for all; raise `RangeNotSatisfiable`."""
    if not range_counts(request, etag, modified_at_s):
        return None
    try:
        return parse_range(request.headers["Range"], size)
    except Unsatisfiable:
        raise RangeNotSatisfiable(size) from None


def _media_type(
    request: web.BaseRequest, stream: FileStream, head: bytes, *, complete: bool
) -> str:
    """The type of the content; judging binary data takes a third of a small file's whole time."""
    entry = stream.entry
    if entry.version is None:
        return media_type(entry.path.name, head, complete)
    # A version tells two states of one file apart, not two files; and it may be long.
    key = hash((stream.source, request.rel_url.raw_path, entry.version))
    known = _known_types.get(key)
    if known is None:
        known = media_type(entry.path.name, head, complete)
        if len(_known_types) >= _MOST_KNOWN:
            _known_types.clear()
        _known_types[key] = known
    return known


async def _head(stream: FileStream) -> bytes:
    size = stream.entry.size
    if size is None:
        return await stream.read(0, HEAD_BYTES)
    return await stream.read(0, size if size <= _SMALL else HEAD_BYTES)


async def _send_span(
    request: web.BaseRequest,
    stream: FileStream,
    head: bytes,
    status: int,
    first: int,
    count: int | None,
    headers: dict[str, str],
) -> Response:
    # For HEAD, Answer would leave out the length of what is empty.
    if count is not None and first + count <= len(head) and request.method != "HEAD":
        return Answer(status, head[first : first + count], headers)
    response = await begun(request, status, headers, count)
    if request.method == "HEAD":
        return response
    transfer = Transfer(request, response)
    await transfer.send(stream, first, count)
    return await transfer.end()


async def _send_parts(
    request: web.BaseRequest, stream: FileStream, multipart: Multipart, headers: dict[str, str]
) -> Response:
    headers["Content-Type"] = multipart.content_type
    response = await begun(request, 206, headers, multipart.length)
    transfer = Transfer(request, response)
    for part_head, part in multipart.parts():
        await transfer.write(part_head)
        await transfer.send(stream, part.first, part.length)
    await transfer.write(multipart.tail)
    return await transfer.end()


async def _digest(request: web.BaseRequest, stream: FileStream) -> dict[str, str]:
    algorithm = _wanted_digest(request)
    if algorithm is None:
        return {}
    return {"Repr-Digest": await _digest_of(stream, algorithm, request[TURNS])}


async def _digest_of(stream: FileStream, algorithm: str, turns: Turns) -> str:
    """The `Repr-Digest` member of the whole file (RFC 9530)."""
    digest = hashlib.new(_ALGORITHMS[algorithm])
    async for chunk in stream.chunks(0, stream.entry.size):
        await turns.take(partial(digest.update, chunk))
    return f"{algorithm}=:{base64.b64encode(digest.digest()).decode()}:"


def _wanted_digest(request: web.BaseRequest) -> str | None:
    asked = Query.of(request).text("digest")
    if asked is not None:
        if asked != "sha256":
            raise BadParameter("digest: only sha256 is known")
        return "sha-256"
    best, best_weight = None, 0
    for member in ",".join(request.headers.getall("Want-Repr-Digest", [])).split(","):
        name, _, weight = member.strip().partition("=")
        if name in _ALGORITHMS and weight in _WEIGHTS and int(weight) > best_weight:
            best, best_weight = name, int(weight)
    return best


def _modified_at_s(mtime_ns: int | None) -> int | None:
    if mtime_ns is None:
        return None
    # RFC 9110 section 8.8.2.1: never later than the answer itself; and a date must have a name.
    return max(_FIRST_YEAR_S, min(mtime_ns // 10**9, int(time.time())))
