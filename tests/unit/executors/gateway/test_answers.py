"""What another gateway answers is checked before it is believed; errors become verdicts."""

import asyncio

import pytest

from gateway.domain.errors import (
    AuthRejected,
    Busy,
    GatewayError,
    NotADirectory,
    NotAFile,
    NotReadable,
    PathNotFound,
    PathRefused,
    ProtocolFault,
    StreamBroken,
    TooLarge,
    Unavailable,
    Unreachable,
    Unsupported,
    WorkspaceGone,
)
from gateway.domain.model import Kind
from gateway.domain.paths import WorkspacePath
from gateway.executors.streams import Wanted
from tests.doubles.raw_http import answer, raw_http
from tests.unit.executors.gateway.asking import at, content, executor, listed

JSON = "Content-Type: application/json"
EVIL = b'{"error":"<script>"}'


@pytest.mark.parametrize(
    ("status", "verdict", "error"),
    [
        (404, "session_not_found", WorkspaceGone),
        (404, "path_not_found", PathNotFound),
        (404, "not_readable", NotReadable),
        (400, "not_a_file", NotAFile),
        (400, "not_a_directory", NotADirectory),
        (400, "path_refused", PathRefused),
        (400, "bad_parameter", Unsupported),
        (413, "too_large", TooLarge),
        (401, "credentials_rejected", AuthRejected),
        (403, "scope_missing", AuthRejected),
        (429, "too_many_requests", Unavailable),
        (503, "store_unavailable", Unavailable),
        (503, "busy", Busy),
        (502, "unavailable", Unavailable),
        (404, None, ProtocolFault),
        (404, "", ProtocolFault),
        (404, "too_large", ProtocolFault),
        (404, "made_up", ProtocolFault),
        (400, "path_not_found", ProtocolFault),
        (413, None, ProtocolFault),
        (416, "range_not_satisfiable", ProtocolFault),
        (304, None, ProtocolFault),
        (204, None, ProtocolFault),
        (206, None, ProtocolFault),
        (302, "path_not_found", ProtocolFault),
        (418, "path_not_found", ProtocolFault),
        (502, None, Unavailable),
    ],
)
async def test_an_error_is_the_verdict_that_its_header_names(
    status: int, verdict: str | None, error: type[GatewayError]
) -> None:
    """And none of its words are passed on."""
    headers = [JSON] if verdict is None else [JSON, f"X-Workspace-Verdict: {verdict}"]
    async with (
        raw_http(answer(status, EVIL, *headers)) as there,
        executor(f"http://127.0.0.1:{there.port}") as edge,
    ):
        with pytest.raises(GatewayError) as opened:
            await content(edge)
        with pytest.raises(GatewayError) as walked:
            await listed(edge)

    assert opened.type is walked.type is error
    assert "script" not in opened.value.message


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        (["X-Workspace-Limit: 104857600"], "limit (100MB)"),
        (["X-Workspace-Limit: 999999999999999999"], "limit (999999999999999999 bytes)"),
        ([], "limit of its executor"),
        (["X-Workspace-Limit: 1000000000000000000"], "limit of its executor"),
        (["X-Workspace-Limit: -1"], "limit of its executor"),
        (["X-Workspace-Limit: <script>"], "limit of its executor"),
        (["X-Workspace-Limit: \u0661\u0662"], "limit of its executor"),
        (["X-Workspace-Limit:"], "limit of its executor"),
    ],
)
async def test_a_file_that_is_too_large_is_told_with_the_limit(headers, text) -> None:
    """That of the executor, if it tells one; its own words are not passed on here either."""
    refusal = answer(413, EVIL, JSON, "X-Workspace-Verdict: too_large", *headers)
    async with raw_http(refusal) as there, executor(f"http://127.0.0.1:{there.port}") as edge:
        with pytest.raises(TooLarge) as raised:
            await content(edge)

    assert raised.value.message == f"file exceeds maximum size {text}"


PART = "Content-Range: bytes 5-8/10"
BODIES = {
    "another part": answer(206, b"abcd", "Content-Range: bytes 4-7/10"),
    "a part without its place": answer(206, b"abcd"),
    "a part that is shorter than it says": answer(206, b"abc", PART),
    "a part that is longer than it says": answer(206, b"abcde", PART),
    "a part behind the end": answer(206, b"abcd", "Content-Range: bytes 5-8/7"),
    "a part of unknown size": answer(206, b"abcd", "Content-Range: bytes 5-8/*"),
    "two places": answer(206, b"abcd", PART, PART),
    "several parts": answer(206, b"--x", "Content-Type: multipart/byteranges; boundary=x"),
    "two versions": answer(200, b"abcd", 'ETag: "a"', 'ETag: "b"'),
    "a version that is none": answer(200, b"abcd", "ETag: abc"),
    "a version of a megabyte": answer(200, b"abcd", 'ETag: "' + "a" * 8000 + '"'),
    "a time that is none": answer(200, b"abcd", "Last-Modified: yesterday"),
    "two lengths": answer(200, b"abcd", "Content-Length: 5"),
    "no length": b"HTTP/1.1 200 x\r\n\r\nabcd",
    "compressed": answer(200, b"abcd", "Content-Encoding: gzip"),
    "not modified, unasked": answer(304),
    "cut before the first byte": answer(200, b"", "X: y").replace(b": 0\r\n", b": 9\r\n", 1),
}


@pytest.mark.parametrize("name", BODIES)
async def test_an_answer_that_contradicts_itself_is_no_file(name: str) -> None:
    async with (
        raw_http(BODIES[name]) as there,
        executor(f"http://127.0.0.1:{there.port}") as edge,
    ):
        with pytest.raises(ProtocolFault):
            async with edge.open("s1", at("f"), Wanted(5, 4)):
                pass


async def test_a_body_that_is_cut_breaks_the_stream() -> None:
    cut = answer(200, b"abcd").replace(b": 4", b": 5")
    async with raw_http(cut) as there, executor(f"http://127.0.0.1:{there.port}") as edge:
        with pytest.raises(StreamBroken):
            await content(edge)


async def test_a_file_that_changes_between_two_parts_breaks_the_stream() -> None:
    """The second request says which version it is about; this gateway does not care."""
    first = answer(206, b"abcd", 'ETag: "one"', "Content-Range: bytes 0-3/10")
    second = answer(206, b"efgh", 'ETag: "two"', "Content-Range: bytes 4-7/10")
    async with (
        raw_http(first, second) as there,
        executor(f"http://127.0.0.1:{there.port}") as edge,
        edge.open("s1", at("f"), Wanted(0, 4)) as stream,
    ):
        assert await stream.read(0, 4) == b"abcd"
        with pytest.raises(StreamBroken):
            await stream.read(4, 4)

    assert b"If-Match" not in there.heads[0]
    assert b'If-Match: "one"\r\n' in there.heads[1]


async def test_what_is_wanted_is_asked_for() -> None:
    whole = answer(200, b"0123456789", 'ETag: "one"')
    async with raw_http(whole) as there, executor(f"http://127.0.0.1:{there.port}") as edge:
        for wanted in (Wanted(), Wanted(5, 4), Wanted(5), Wanted(unless="x")):
            async with edge.open("s1", at("f"), wanted) as stream:
                assert await stream.read(5, 4) == b"5678"
                assert stream.entry.version == "one"

    sent = [head.decode().split("\r\n") for head in there.heads]
    conditions = [
        [line for line in head if line.startswith(("Range", "If-None-Match"))] for head in sent
    ]
    assert conditions[0] == []
    assert ["Range: bytes=5-8"] in conditions
    assert ["Range: bytes=5-"] in conditions
    assert ['If-None-Match: "x"'] in conditions


async def test_a_name_is_sent_so_that_it_arrives() -> None:
    name = WorkspacePath((b"a b", b"%41?#&+;=", b"\xff", "é".encode(), b"\\"))
    async with (
        raw_http(answer(200, b"x")) as there,
        executor(f"http://127.0.0.1:{there.port}/base/") as edge,
        edge.open("s1", name),
    ):
        pass

    target = there.heads[0].split(b" ")[1]
    assert target == (
        b"/base/api/v1/sessions/s1/files/a%20b/%2541%3F%23%26%2B%3B%3D/%EE%BF%BF/%C3%A9/%5C"
    )


async def test_a_path_that_no_gateway_would_read_is_not_sent() -> None:
    long = WorkspacePath((b"\xff" * 200,) * 20)
    async with (
        raw_http(answer(200, b"x")) as there,
        executor(f"http://127.0.0.1:{there.port}") as edge,
    ):
        with pytest.raises(Unsupported):
            async with edge.open("s1", long):
                pass

    assert there.heads == []


ROW = b'{"name":"f","path":"%s","size":1,"is_dir":false,"modified_at":"2026-01-02T03:04:05Z"}'


def listing(*paths: str, rest: bytes = b"", rows: bytes | None = None) -> bytes:
    inner = b",".join(ROW % path.encode() for path in paths) if rows is None else rows
    return answer(
        200, b'{"session_id":"s1","path":"/d","files":[' + inner + b"]" + rest + b"}", JSON
    )


def row(**changes: str) -> bytes:
    """A row below /d of which some members are written otherwise."""
    members = {
        "path": '"/d/f"',
        "size": "1",
        "is_dir": "false",
        "modified_at": '"2026-01-02T03:04:05Z"',
        **changes,
    }
    return ("{" + ",".join(f'"{k}":{v}' for k, v in members.items() if v) + "}").encode()


LISTINGS = {
    "a path elsewhere": listing("/e/f"),
    "the directory itself": listing("/d"),
    "a directory of a similar name": listing("/dd/f"),
    "a climb": listing("/d/../../etc/passwd"),
    "a climb at its end": listing("/d/.."),
    "a dot": listing("/d/./f"),
    "an empty name": listing("/d//f"),
    "a trailing slash": listing("/d/f/"),
    "relative": listing("d/f"),
    "empty": listing(""),
    "a NUL": listing("/d/\\u0000"),
    "out of order": listing("/d/b", "/d/a"),
    "twice": listing("/d/a", "/d/a"),
    "a child before its parent": listing("/d/a/b", "/d/a"),
    "a lone surrogate": listing("/d/\\udc80"),
    "a size below zero": listing(rows=row(size="-1")),
    "a size of 100 digits": listing(rows=row(size="1" * 100)),
    "a size that is a fraction": listing(rows=row(size="1.5")),
    "a size in quotes": listing(rows=row(size='"1"')),
    "no size": listing(rows=row(size="")),
    "a size that is no number": listing(rows=row(size="NaN")),
    "is_dir as a number": listing(rows=row(is_dir="1")),
    "a time without a zone": listing(rows=row(modified_at='"2026-01-02T03:04:05"')),
    "a time that is none": listing(rows=row(modified_at='"soon"')),
    "a path that is no text": listing(rows=row(path="5")),
    "a kind that is none": listing(rows=row(kind='"door"')),
    "a directory that is a file": listing(rows=row(kind='"directory"')),
    "a mode that is none": listing(rows=row(mode='"rwxrwxrwx"')),
    "an entry in an entry": listing(rows=row(x="{}")),
    "an entry that is a list": listing(rows=b"[]"),
    "no comma": listing(rows=row() + row(path='"/d/g"')),
    "two commas": listing(rows=row() + b",," + row(path='"/d/g"')),
    "a comma at the end": listing(rows=row() + b","),
    "a page that leads nowhere": listing(rest=b',"next_cursor":"x"'),
    "the same page again": listing("/d/a", rest=b',"next_cursor":"x"'),
    "a cursor that is no text": listing("/d/a", rest=b',"next_cursor":{}'),
    "something behind the end": answer(200, b'{"files":[]}{"files":[]}', JSON),
    "cut in an entry": answer(200, b'{"files":[{"name":"', JSON),
    "cut between entries": answer(200, b'{"files":[' + row(), JSON),
    "cut before its end": answer(200, b'{"files":[]', JSON),
    "no entries": answer(200, b"{}", JSON),
    "nothing": answer(200, b"", JSON),
    "no JSON": answer(200, b"<html>", JSON),
    "a list": answer(200, b"[]", JSON),
    "another type": answer(200, b'{"files":[]}', "Content-Type: text/html"),
    "deep": answer(200, b'{"a":' * 100_000, JSON),
    "an entry of three megabytes": listing(rows=row(path='"/d/' + "a" * 3_000_000 + '"')),
    "blanks of three megabytes": answer(200, b'{"files":[' + b" " * 3_000_000 + b"]}", JSON),
    "a body that is cut": listing("/d/f").replace(b"Length: ", b"Length: 9"),
}


@pytest.mark.parametrize("name", LISTINGS)
async def test_a_listing_that_is_none_is_refused(name: str) -> None:
    async with (
        raw_http(LISTINGS[name]) as there,
        executor(f"http://127.0.0.1:{there.port}") as edge,
    ):
        with pytest.raises((ProtocolFault, StreamBroken)):
            await listed(edge, "d")


async def test_a_listing_is_read_whatever_blanks_and_members_it_has() -> None:
    text = (
        b' { "session_id" : "s\\"[{1" , "path":"/d", "files" : [ '
        + row(path='"/d/},{"', new='"x]"').replace(b'":', b'" : ')
        + b" , "
        + row(path='"/d/\\u007f]}"', size="7", error='"<b>"', is_symlink="true")
        + b' ] , "truncated" : true, "what" : [{}] } '
    )
    async with (
        raw_http(answer(200, text, "Content-Type: Application/JSON; charset=utf-8")) as there,
        executor(f"http://127.0.0.1:{there.port}") as edge,
    ):
        first, second = await listed(edge, "d")

    assert first.path == WorkspacePath((b"d", b"},{"))
    assert first.kind is Kind.FILE
    assert first.mtime_ns == 1767323045 * 10**9
    assert (second.size, second.is_link, second.problem) == (7, True, "not readable")


async def test_pages_are_followed() -> None:
    pages = listing("/d/a", "/d/b", rest=b',"truncated":true,"next_cursor":"x"'), listing("/d/c")
    async with raw_http(*pages) as there, executor(f"http://127.0.0.1:{there.port}") as edge:
        names = [entry.path.name for entry in await listed(edge, "d")]

    assert names == ["a", "b", "c"]
    assert b"cursor=ZC9i" in there.heads[1]  # made here, from the last path; not theirs


async def test_no_connection_is_told_from_a_refusal(tmp_path) -> None:
    async with executor(f"unix://{tmp_path}/none.sock") as edge:
        with pytest.raises(Unreachable):
            await content(edge)
        assert not (await edge.probe()).ready


@pytest.mark.parametrize(
    ("there_is", "ready", "reason"),
    [
        (answer(404, EVIL, "X-Workspace-Verdict: session_not_found"), True, None),
        (answer(404, EVIL), False, "protocol"),
        (answer(401, EVIL), False, "auth"),
        (answer(502, EVIL), False, "unavailable"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", False, "protocol"),
    ],
)
async def test_a_probe_says_what_is_wrong(there_is: bytes, ready: bool, reason: str | None) -> None:
    async with raw_http(there_is) as there, executor(f"http://127.0.0.1:{there.port}") as edge:
        async with asyncio.timeout(5):
            health = await edge.probe()

    assert health.ready is ready
    assert health.details.get("reason") == reason
