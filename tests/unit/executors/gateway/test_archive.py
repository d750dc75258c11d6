"""What another gateway answers to a request for an archive, and what it is asked."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from gateway.domain.archives import ArchiveBounds, Format, Packing
from gateway.domain.errors import (
    ArchiveFailed,
    AuthRejected,
    GatewayError,
    NotADirectory,
    PathNotFound,
    ProtocolFault,
    StreamBroken,
    TooLarge,
    TooManyRequests,
    Unavailable,
    Unsupported,
    WorkspaceGone,
)
from gateway.executors.gateway.archive import GatewayArchive
from gateway.executors.streams import NOTHING, Packed, Wanted
from tests.doubles.raw_http import RawHttp, answer, raw_http
from tests.unit.executors.gateway.asking import at, executor

BOUNDS = ArchiveBounds(entries=10, bytes=1000, file=500, depth=9)
PACKED = Packed(Packing(Format.TAR), BOUNDS)
TAR = ("Content-Type: application/x-tar", 'ETag: "one"')
FACTS = ("X-Archive-Entries: 2", "X-Archive-Uncompressed-Size: 30", "X-Archive-Skipped: 1")
CHUNKED = "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n" + "\r\n".join((*TAR, "", ""))
HEAD = b"HTTP/1.1 200 x\r\n" + "\r\n".join((*TAR, *FACTS, "", "")).encode()


def part(first: int, body: bytes, size: int, *headers: str) -> bytes:
    place = f"Content-Range: bytes {first}-{first + len(body) - 1}/{size}"
    return answer(206, body, place, *(headers or TAR))


@asynccontextmanager
async def archived(
    *answers: bytes, packed: Packed = PACKED
) -> AsyncIterator[tuple[GatewayArchive, RawHttp]]:
    async with (
        raw_http(*answers) as there,
        executor(f"http://127.0.0.1:{there.port}") as edge,
        edge.archive("s1", packed) as archive,
    ):
        yield archive, there


async def refused(*answers: bytes, packed: Packed = PACKED) -> GatewayError:
    with pytest.raises(GatewayError) as raised:
        async with archived(*answers, packed=packed):
            pytest.fail("it was entered")
    return raised.value


async def body(archive: GatewayArchive) -> bytes:
    return b"".join([chunk async for chunk in archive.chunks(0, archive.entry.size)])


def lines(head: bytes, *names: str) -> list[str]:
    """The request line, and the headers of these names."""
    first, *others = head.decode().split("\r\n")
    return [first, *(line for line in others if line.startswith(names))]


@pytest.mark.parametrize(
    ("status", "verdict", "error"),
    [
        (404, None, Unsupported),
        (400, "bad_parameter", Unsupported),
        (404, "session_not_found", WorkspaceGone),
        (404, "path_not_found", PathNotFound),
        (400, "not_a_directory", NotADirectory),
        (413, "too_large", TooLarge),
        (429, "too_many_requests", TooManyRequests),
        (429, None, Unavailable),
        (500, "archive_failed", ArchiveFailed),
        (500, None, Unavailable),
        (503, "store_unavailable", Unavailable),
        (502, "unavailable", Unavailable),
        (403, "scope_missing", AuthRejected),
        (404, "made_up", ProtocolFault),
        (405, None, ProtocolFault),
        (206, None, ProtocolFault),
        (304, None, ProtocolFault),
        (416, "range_not_satisfiable", ProtocolFault),
    ],
)
@pytest.mark.parametrize("wanted", [Wanted(), NOTHING], ids=["all", "nothing"])
async def test_a_refusal_is_the_verdict_that_its_header_names(
    status: int, verdict: str | None, error: type[GatewayError], wanted: Wanted
) -> None:
    """And none of its words are passed on."""
    told = [] if verdict is None else [f"X-Workspace-Verdict: {verdict}"]
    text = b'{"error":"<script>"}' if wanted.count is None else b""

    raised = await refused(answer(status, text, *told), packed=replace(PACKED, wanted=wanted))

    assert type(raised) is error
    assert "script" not in raised.message


STRANGE = {
    "another type": answer(200, b"tar", "Content-Type: text/html", 'ETag: "one"'),
    "no type": answer(200, b"tar", 'ETag: "one"'),
    "no version": answer(200, b"tar", TAR[0]),
    "a weak version": answer(200, b"tar", TAR[0], 'ETag: W/"one"'),
    "a version that is none": answer(200, b"tar", TAR[0], "ETag: one"),
    "two versions": answer(200, b"tar", *TAR, 'ETag: "two"'),
    "entries below zero": answer(200, b"tar", *TAR, "X-Archive-Entries: -1"),
    "a size in hex": answer(200, b"tar", *TAR, "X-Archive-Uncompressed-Size: 0x1"),
    "a number of 100 digits": answer(200, b"tar", *TAR, "X-Archive-Skipped: " + "1" * 100),
    "two numbers": answer(200, b"tar", *TAR, "X-Archive-Skipped: 1", "X-Archive-Skipped: 1"),
    "neither length nor chunks": b"HTTP/1.1 200 x\r\n" + "\r\n".join((*TAR, "", "tar")).encode(),
    "cut before the first byte": answer(200, b"", *TAR).replace(b": 0\r\n", b": 9\r\n", 1),
    "compressed": answer(200, b"tar", *TAR, "Content-Encoding: gzip"),
}


@pytest.mark.parametrize("name", STRANGE)
async def test_what_is_no_archive_is_not_given(name: str) -> None:
    assert type(await refused(STRANGE[name])) is ProtocolFault


@pytest.mark.parametrize(
    "fact", ["X-Archive-Entries: 11", "X-Archive-Uncompressed-Size: 1001"], ids=["entries", "bytes"]
)
@pytest.mark.parametrize("wanted", [Wanted(), NOTHING], ids=["all", "nothing"])
async def test_what_is_out_of_bounds_is_too_large(fact: str, wanted: Wanted) -> None:
    made = answer(200, b"tar" if wanted.count is None else b"", *TAR, fact)

    assert type(await refused(made, packed=replace(PACKED, wanted=wanted))) is TooLarge


async def test_an_archive_of_which_all_is_wanted_is_one_request() -> None:
    made = CHUNKED.encode() + b"3\r\ntar\r\n0\r\n\r\n"
    async with archived(made) as (archive, there):
        await archive.prepare(whole=False)
        assert (archive.entry.version, archive.entry.size) == ("one", None)
        assert await body(archive) == b"tar"

    assert [lines(head, "Range", "If-") for head in there.heads] == [
        ["GET /api/v1/sessions/s1/archive?format=tar HTTP/1.1"]
    ]


async def test_nothing_is_made_before_it_is_prepared() -> None:
    """What is known before is told."""
    packed = replace(PACKED, wanted=Wanted(4, None))
    async with archived(HEAD, part(4, b"56", 6), packed=packed) as (archive, there):
        assert (archive.entry.version, archive.entry.size) == ("one", None)
        assert (archive.entries, archive.uncompressed, archive.skipped) == (2, 30, 1)
        assert len(there.heads) == 1
        await archive.prepare(whole=True)
        assert archive.entry.size == 6
        assert b"".join([chunk async for chunk in archive.chunks(4, 2)]) == b"56"

    target = "/api/v1/sessions/s1/archive?format=tar HTTP/1.1"
    assert [lines(head, "Range", "If-") for head in there.heads] == [
        [f"HEAD {target}"],
        [f"GET {target}", "Range: bytes=4-", 'If-Match: "one"'],
    ]


async def test_the_length_is_told_of_what_has_an_end() -> None:
    """`bytes=0-` is answered by the whole before its length is known."""
    packed = replace(PACKED, wanted=Wanted(unless="x"))
    async with archived(HEAD, part(0, b"123456", 6), packed=packed) as (archive, there):
        await archive.prepare(whole=True)
        assert archive.entry.size == 6

    assert lines(there.heads[1], "Range")[1:] == ["Range: bytes=0-999999999999999999"]


async def test_a_length_that_is_known_takes_no_range() -> None:
    async with archived(answer(200, b"123456", *TAR)) as (archive, there):
        await archive.prepare(whole=True)
        assert await body(archive) == b"123456"

    assert len(there.heads) == 1


async def test_a_part_behind_the_end_tells_the_length() -> None:
    behind = answer(416, b"", "Content-Range: bytes */6")
    packed = replace(PACKED, wanted=Wanted(6, None))
    async with archived(HEAD, behind, packed=packed) as (archive, _):
        await archive.prepare(whole=True)
        assert archive.entry.size == 6


@pytest.mark.parametrize(
    ("second", "error"),
    [
        (part(4, b"56", 6, TAR[0], 'ETag: "two"'), ProtocolFault),
        (part(3, b"456", 6), ProtocolFault),
        (part(4, b"5", 6).replace(b": 1\r\n", b": 2\r\n"), ProtocolFault),
        (CHUNKED.encode() + b"6\r\n123456\r\n0\r\n\r\n", ProtocolFault),
        (answer(416, b"", "Content-Range: bytes */x"), ProtocolFault),
        (answer(412, b"", "X-Workspace-Verdict: precondition_failed"), ArchiveFailed),
        (answer(429, b"", "X-Workspace-Verdict: too_many_requests"), TooManyRequests),
    ],
    ids=["version", "place", "length", "no length", "no size", "changed", "busy"],
)
async def test_what_comes_when_it_is_prepared_is_checked_as_well(
    second: bytes, error: type[GatewayError]
) -> None:
    async with archived(HEAD, second, packed=replace(PACKED, wanted=Wanted(4, 2))) as (archive, _):
        with pytest.raises(error):
            await archive.prepare(whole=True)


async def test_two_versions_are_never_spliced() -> None:
    """The request says which version it is about; this gateway does not care."""
    packed = replace(PACKED, wanted=Wanted(0, 3))
    other = part(3, b"456", 6, TAR[0], 'ETag: "two"')
    async with archived(HEAD, part(0, b"123", 6), other, packed=packed) as (archive, there):
        await archive.prepare(whole=True)
        with pytest.raises(StreamBroken):
            await archive.read(3, 3)

    assert lines(there.heads[2], "If-")[1:] == ['If-Match: "one"']


async def test_a_body_that_is_cut_breaks() -> None:
    async with archived(CHUNKED.encode() + b"3\r\ntar\r\n") as (archive, _):
        await archive.prepare(whole=False)
        with pytest.raises(StreamBroken):
            await body(archive)


async def test_what_is_asked_arrives_as_it_was_meant() -> None:
    paths = (at("a b&c"), at("d/é"))
    packing = Packing(
        Format.TAR_GZ, paths, ("*.log", "!a+b&"), gitignore=True, stored=True, manifest=True
    )
    made = answer(200, b"gz", "Content-Type: application/gzip", TAR[1])
    async with archived(made, packed=replace(PACKED, packing=packing)) as (_, there):
        pass

    target = there.heads[0].split(b" ")[1].decode()
    assert target == (
        "/api/v1/sessions/s1/archive?format=tar.gz&path=a+b%26c&path=d/%C3%A9"
        "&exclude=*.log&exclude=!a%2Bb%26&gitignore=true&stored=true&manifest=true"
    )


async def test_what_no_gateway_would_read_is_not_sent() -> None:
    packing = Packing(Format.TAR, tuple(at(f"{number:03}" * 80) for number in range(90)))
    packed = replace(PACKED, packing=packing)
    async with (
        raw_http(answer(200, b"x")) as there,
        executor(f"http://127.0.0.1:{there.port}") as edge,
    ):
        with pytest.raises(Unsupported):
            async with edge.archive("s1", packed):
                pass

    assert there.heads == []
