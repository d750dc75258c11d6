"""Archives on the wire: headers, conditions, ranges, lengths, and what breaks while they are sent.

What is packed is in memory: the promise is the same whatever makes the archives.
"""

import io
import random
import zipfile
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from gateway.domain.errors import ArchiveFailed, TooLarge, TooManyRequests, Unavailable
from tests.doubles.packing import Packer, packing_gateway
from tests.gateways import AUTH, Gateway, key_entry
from tests.wire import Answer, Wire, head

FILES = {
    "a.txt": b"a",
    "data/large.bin": random.Random(1).randbytes(400_000),
    "data/small": b"s" * 1000,
}
ARCHIVE = "/api/v1/sessions/s1/archive"
BLACKBOX = "/api/v1/tasks/s1/files/download"
SCOPES = {"auth": {"keys": [key_entry(scopes=["archives:read"])]}}


@pytest.fixture
def packer() -> Packer:
    return Packer({"s1": FILES, "empty": {}})


@pytest.fixture
async def gateway(packer: Packer) -> AsyncIterator[Gateway]:
    async with packing_gateway(packer, SCOPES) as running:
        yield running


def unpacked(body: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def fixed(answer: Answer) -> dict[str, str]:
    return {k: v for k, v in answer.headers if k not in ("Date", "X-Request-ID")}


async def test_an_archive_comes_with_the_headers_that_are_promised(
    gateway: Gateway, packer: Packer
) -> None:
    answer = await gateway.ask(ARCHIVE)

    _, archive = packer.opened[0]
    assert (answer.status, answer.complete) == (200, True)
    assert unpacked(answer.body) == FILES
    assert fixed(answer) == {
        "Content-Type": "application/zip",
        "Content-Disposition": 'attachment; filename="workspace-s1.zip"',
        "ETag": f'"{archive.entry.version}"',
        "Accept-Ranges": "bytes",
        "Transfer-Encoding": "chunked",
        "X-Archive-Entries": "3",
        "X-Archive-Uncompressed-Size": "401001",
        "X-Archive-Skipped": "0",
        "X-Workspace-Source": "memory",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-cache",
        "Referrer-Policy": "no-referrer",
        "Server": "workspace-gateway",
    }
    assert archive.prepared == [False]


async def test_what_is_not_known_is_not_told(gateway: Gateway, packer: Packer) -> None:
    packer.skipped, packer.has_version, packer.fallback = None, False, "unreachable"

    answer = await gateway.ask(ARCHIVE, "Range: bytes=0-9", 'If-Range: "x"')

    assert answer.status == 200
    assert answer.header("ETag") is None
    assert answer.header("X-Archive-Skipped") is None
    assert answer.header("X-Archive-Entries") == "3"
    assert answer.header("X-Workspace-Fallback") == "unreachable"


@pytest.mark.parametrize("query", ["", "?stored=true"])
@pytest.mark.parametrize("is_spooled", [False, True])
async def test_the_length_is_told_when_it_is_known(
    gateway: Gateway, packer: Packer, is_spooled: bool, query: str
) -> None:
    packer.is_spooled = is_spooled

    got = await gateway.ask(ARCHIVE + query)
    asked = await gateway.ask(ARCHIVE + query, method="HEAD")

    length = str(len(got.body)) if is_spooled or query else None
    assert unpacked(got.body) == FILES
    assert got.header("Content-Length") == length
    assert {**fixed(asked), **_framing(got)} == fixed(got)


def _framing(answer: Answer) -> dict[str, str]:
    """What HEAD may leave out (RFC 9110 section 9.3.2), and aiohttp does."""
    return {k: v for k, v in answer.headers if k == "Transfer-Encoding"}


async def test_head_has_nothing_made_and_leaves_the_connection_clean(
    gateway: Gateway, packer: Packer
) -> None:
    async with await Wire.connect(gateway.port) as wire:
        asked = await wire.ask(ARCHIVE, AUTH, "Range: bytes=0-9", method="HEAD")
        following = await wire.ask(ARCHIVE, AUTH)

    assert asked.status == 200
    assert asked.header("Content-Range") is None
    assert unpacked(following.body) == FILES
    assert [archive.prepared for _, archive in packer.opened] == [[], [False]]


async def test_an_empty_workspace_is_an_empty_archive(gateway: Gateway) -> None:
    answer = await gateway.ask("/api/v1/sessions/empty/archive")

    assert (answer.status, unpacked(answer.body)) == (200, {})
    assert answer.header("X-Archive-Entries") == "0"
    assert answer.header("X-Archive-Uncompressed-Size") == "0"


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (("If-None-Match: {tag}",), 304),
        (("If-None-Match: W/{tag}",), 304),
        (('If-None-Match: "x", {tag}',), 304),
        (("If-None-Match: *", "Range: bytes=0-1"), 304),
        (('If-Match: "x"',), 412),
        (("If-Match: W/{tag}",), 412),
        (("If-Match: {tag}",), 200),
        (('If-None-Match: "x"',), 200),
        (("If-Modified-Since: Wed, 01 Jan 2200 00:00:00 GMT",), 200),
        (("If-Unmodified-Since: Wed, 01 Jan 2020 00:00:00 GMT",), 200),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("target", [ARCHIVE, BLACKBOX])
async def test_conditions_come_before_any_work(
    gateway: Gateway, packer: Packer, target: str, method: str, lines: tuple[str, ...], status: int
) -> None:
    """Also where the length has to be told: a client that has the archive makes no work at all."""
    tag = (await gateway.ask(target)).header("ETag")

    answer = await gateway.ask(target, *(line.format(tag=tag) for line in lines), method=method)

    _, archive = packer.opened[-1]
    assert answer.status == status
    if status != 200:
        assert archive.prepared == []
    if status == 304:
        assert (answer.body, answer.header("ETag")) == (b"", tag)


@pytest.mark.parametrize("is_spooled", [False, True])
@pytest.mark.parametrize(
    ("spec", "first", "end"),
    [("0-99", 0, 100), ("100-", 100, None), ("-5", -5, None), ("399000-9999999", 399_000, None)],
)
async def test_a_range_is_of_the_whole_archive(
    gateway: Gateway, packer: Packer, is_spooled: bool, spec: str, first: int, end: int | None
) -> None:
    packer.is_spooled = is_spooled
    whole = await gateway.ask(ARCHIVE)
    tag = whole.header("ETag")

    answer = await gateway.ask(ARCHIVE, f"Range: bytes={spec}", f"If-Range: {tag}")

    size = len(whole.body)
    start, stop, _ = slice(first, end).indices(size)
    assert (answer.status, answer.body) == (206, whole.body[first:end])
    assert answer.header("Content-Range") == f"bytes {start}-{stop - 1}/{size}"
    assert answer.header("Content-Length") == str(stop - start)
    assert answer.header("Content-Type") == "application/zip"
    assert answer.header("ETag") == tag
    assert packer.opened[-1][1].prepared == [True]


async def test_a_range_from_0_to_the_end_is_one_once_the_length_is_known(
    gateway: Gateway, packer: Packer
) -> None:
    packer.is_spooled = True

    answer = await gateway.ask(ARCHIVE, "Range: bytes=0-")

    size = len(answer.body)
    assert (answer.status, unpacked(answer.body)) == (206, FILES)
    assert answer.header("Content-Range") == f"bytes 0-{size - 1}/{size}"
    assert packer.opened[-1][1].prepared == [False]


async def test_several_ranges(gateway: Gateway) -> None:
    whole = await gateway.ask(ARCHIVE)

    answer = await gateway.ask(ARCHIVE, "Range: bytes=0-9,300000-300004,-3")

    kind, _, boundary = (answer.header("Content-Type") or "").partition("; boundary=")
    assert (answer.status, kind) == (206, "multipart/byteranges")
    assert answer.header("Content-Length") == str(len(answer.body))
    parts = answer.body.split(f"--{boundary}".encode())
    assert [part.partition(b"\r\n\r\n")[2] for part in parts[1:-1]] == [
        whole.body[0:10] + b"\r\n",
        whole.body[300_000:300_005] + b"\r\n",
        whole.body[-3:] + b"\r\n",
    ]


@pytest.mark.parametrize(
    "lines",
    [
        ("Range: items=0-5",),
        ("Range: bytes=x",),
        ("Range: bytes=0-",),
        ("Range: bytes=0-9", 'If-Range: "other"'),
        ("Range: bytes=0-9", "If-Range: Wed, 01 Jan 2020 00:00:00 GMT"),
    ],
)
async def test_a_range_that_is_ignored_delays_nothing(
    gateway: Gateway, packer: Packer, lines: tuple[str, ...]
) -> None:
    """A changed workspace gives a new archive from its start, as soon as its first byte is made."""
    answer = await gateway.ask(ARCHIVE, *lines)

    assert (answer.status, unpacked(answer.body)) == (200, FILES)
    assert packer.opened[-1][1].prepared == [False]


async def test_an_unsatisfiable_range(gateway: Gateway) -> None:
    size = len((await gateway.ask(ARCHIVE)).body)

    answer = await gateway.ask(ARCHIVE, f"Range: bytes={size}-")

    assert (answer.status, answer.json) == (416, {"error": "range not satisfiable"})
    assert answer.header("Content-Range") == f"bytes */{size}"


async def test_an_http_1_0_client_is_told_the_length(gateway: Gateway, packer: Packer) -> None:
    """It could not tell a connection that broke from the end of the archive."""
    async with await Wire.connect(gateway.port) as wire:
        answer = await wire.ask(ARCHIVE, AUTH, version="1.0")
    asked = await gateway.ask(ARCHIVE, method="HEAD", version="1.0")

    assert unpacked(answer.body) == FILES
    assert answer.header("Content-Length") == str(len(answer.body))
    assert answer.header("Transfer-Encoding") is None
    assert asked.status == 200
    assert [archive.prepared for _, archive in packer.opened] == [[True], []]


@pytest.mark.parametrize("position", [0, 100_000])
@pytest.mark.parametrize("query", ["", "?stored=1"])
async def test_an_archive_that_breaks_is_visibly_broken(
    gateway: Gateway, packer: Packer, query: str, position: int
) -> None:
    packer.breaks_at = position

    async with await Wire.connect(gateway.port) as wire:
        answer = await wire.ask(ARCHIVE + query, AUTH)
        _, end = await wire.rest()

    assert (answer.status, answer.complete, end) == (200, False, "reset")
    assert len(answer.body) <= position + 16 * 1024
    assert b"error" not in answer.body


async def test_pipelined_requests_are_answered_in_order(gateway: Gateway) -> None:
    lines = [
        ("HEAD", ()),
        ("GET", ("Range: bytes=0-9",)),
        ("GET", ()),
        ("GET", ("Range: bytes=4-",)),
    ]
    async with await Wire.connect(gateway.port) as wire:
        await wire.send(b"".join(head(ARCHIVE, AUTH, *more, method=m) for m, more in lines))
        answers = [await wire.answer(method) for method, _ in lines]

    assert [answer.status for answer in answers] == [200, 206, 200, 206]
    assert answers[1].body == answers[2].body[:10]
    assert answers[3].body == answers[2].body[4:]


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ArchiveFailed("no space left"), 500, "no space left"),
        (TooManyRequests("archives_at_once", "too many archives", 3), 429, "too many archives"),
        (TooLarge("more than 5 entries: 'x'"), 413, "more than 5 entries: 'x'"),
        (Unavailable("no executor could answer"), 502, "no executor could answer"),
    ],
)
@pytest.mark.parametrize("when", ["cannot_open", "cannot_make"])
async def test_what_fails_before_the_first_byte_is_an_error(
    gateway: Gateway, packer: Packer, when: str, error: Exception, status: int, message: str
) -> None:
    setattr(packer, when, error)

    answer = await gateway.ask(ARCHIVE)

    assert (answer.status, answer.json) == (status, {"error": message})
    assert answer.header("Retry-After") == ("3" if status == 429 else None)
    assert answer.header("Content-Disposition") is None
    assert answer.header("ETag") is None


async def test_the_log_tells_what_was_packed(gateway: Gateway, packer: Packer) -> None:
    packer.skipped = 2

    with capture_logs() as records:
        await gateway.ask(ARCHIVE + "?format=tar.gz", "X-Request-ID: one")
        await gateway.ask(ARCHIVE, method="HEAD")
        packer.cannot_make = ArchiveFailed("no space left")
        await gateway.ask(ARCHIVE)
        await gateway.ask("/api/v1/sessions/s1/files/a.txt")

    got, asked, failed, other = (r for r in records if r["event"] == "http_request")
    facts = ("format", "entries", "skipped", "spool", "route")
    assert [got[name] for name in facts[:4]] == ["tar.gz", 3, 2, "miss"]
    assert got["route"] == "/api/v1/sessions/{session_id}/archive"
    assert got["bytes_sent"] > 0
    assert asked["spool"] is None
    assert (failed["outcome"], failed["format"]) == ("error", "zip")
    assert [r["reason"] for r in records if r["event"] == "no_answer"] == ["no space left"]
    assert not {"format", "entries", "skipped", "spool"} & other.keys()
