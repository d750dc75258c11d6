"""HTTP itself: ids, methods, errors, deadlines, and heads that are made to be misread."""

import asyncio
import json
import pkgutil
import re
import time
from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from pathlib import Path

import pytest

import gateway as package
from gateway.domain.errors import GatewayError, TooManyRequests
from gateway.executors.gateway.refusals import ARCHIVE_REFUSALS
from gateway.http.dialects.base import NATIVE
from gateway.http.dialects.blackbox import Blackbox
from gateway.http.dialects.dari import Dari
from gateway.http.dialects.native import Native
from gateway.http.dialects.shannon import Shannon
from gateway.http.errors import STATUS, VERDICTS
from tests.conftest import ResolverName
from tests.gateways import AUTH, Gateway, command, key_entry, plant, resolved_by, running
from tests.heads import MISREAD, SMUGGLED
from tests.http.asking import ACME, with_agents
from tests.wire import Wire, ask, head

FILES = "/api/v1/sessions/s1/files"
MOMENTARY = ("Date", "X-Request-ID")
MALFORMED = b'{"error":"malformed request"}'


@pytest.fixture(autouse=True)
def file(root: Path) -> None:
    plant(root, {"s1/file": b"content", "s2/file": b"SECRET-CANARY"})


# --- ids ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["a", "A.b_c-9", "x" * 128])
async def test_a_request_id_is_kept(gateway: Gateway, given: str) -> None:
    for target in (FILES, FILES + "/missing", "/nowhere", "/livez", FILES + "/../x"):
        answer = await gateway.ask(target, f"X-Request-ID: {given}")
        assert answer.header("X-Request-ID") == given


@pytest.mark.parametrize(
    "given", ["", "a b", "x" * 129, "a/b", "ü", '"', "a\tb", "{}", "a;b", "a,b"]
)
async def test_a_request_id_that_may_not_go_into_a_log_is_replaced(
    gateway: Gateway, given: str
) -> None:
    answer = await gateway.ask(FILES, f"X-Request-ID: {given}")

    assert re.fullmatch("[0-9a-f]{32}", answer.header("X-Request-ID") or "")


async def test_two_request_ids_are_none(gateway: Gateway) -> None:
    answer = await gateway.ask(FILES, "X-Request-ID: a", "X-Request-ID: b")

    assert re.fullmatch("[0-9a-f]{32}", answer.header("X-Request-ID") or "")


async def test_the_log_tells_one_line_for_each_request(tmp_path: Path, root: Path) -> None:
    """With the ids that tie it to the caller's own logs."""
    trace = "0af7651916cd43dd8448eb211c80319c"
    requests = [
        ("GET", FILES + "/file", "ok", 200),
        ("GET", FILES, "ok", 200),
        ("GET", FILES + "/missing", "refused", 404),
        ("HEAD", FILES + "/file", "ok", 200),
        ("POST", FILES, "refused", 405),
        ("PROPFIND", "/nowhere%0a%1b[31m", "refused", 404),
    ]
    with command(tmp_path, root) as process:
        for number, (method, target, _, _) in enumerate(requests):
            lines = (
                AUTH,
                f"X-Request-ID: id-{number}",
                f"traceparent: 00-{trace}-b7ad6b7169203331-01",
            )
            await ask(process.port, target, *lines, method=method)
        await ask(process.port, FILES, AUTH, "traceparent: 00-short", "X-Request-ID: id-x")
    records = [json.loads(line) for line in process.log.read_text().splitlines()]

    lines_of = {r["request_id"]: r for r in records if r["event"] == "http_request"}
    for number, (method, _, outcome, status) in enumerate(requests):
        record = lines_of[f"id-{number}"]
        assert (record["status"], record["outcome"]) == (status, outcome)
        assert record["trace_id"] == trace
        assert record["method"] == (method if method != "PROPFIND" else "other")
        assert "nowhere" not in record["route"]
    assert lines_of["id-x"]["trace_id"] is None
    assert [r["path"] for r in records if r["event"] == "audit.download"] == ["/file", "/file"]


# --- methods and errors ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"]
)
@pytest.mark.parametrize("target", [FILES, FILES + "/file", FILES + "/../x", "/livez", "/readyz"])
async def test_a_wrong_method(gateway: Gateway, method: str, target: str) -> None:
    answer = await gateway.ask(target, method=method)

    assert (answer.status, answer.json) == (405, {"error": "method not allowed"})
    assert set((answer.header("Allow") or "").split(",")) == {"GET", "HEAD"}
    assert answer.header("Content-Type") == "application/json; charset=utf-8"


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/nowhere",
        "//",
        "/api/v1/sessions",
        FILES + "x",
        "/api/v1/sessions//files",
        "/API/v1/sessions/s1/files",
        "//api/v1/sessions/s1/files",
        "/api//v1/sessions/s1/files",
        "/livez/",
        "/metrics",
        "/%2e%2e/etc/passwd",
        "/../../etc/passwd",
        "/api/v1/../v1/sessions/s1/files",
        "/?x=/livez",
    ],
)
async def test_an_unknown_route(gateway: Gateway, target: str) -> None:
    for method in ("GET", "POST"):
        answer = await gateway.ask(target, method=method)
        assert (answer.status, answer.json) == (404, {"error": "not found"})
        assert answer.header("Content-Type") == "application/json; charset=utf-8"
        assert answer.header("X-Content-Type-Options") == "nosniff"
        assert answer.header("Cache-Control") == "private, no-cache"


async def test_a_trailing_slash_behind_files_is_a_file_without_a_name(gateway: Gateway) -> None:
    answer = await gateway.ask(FILES + "/")

    assert answer.status == 400
    assert answer.json == {"error": "invalid path: a file's path is needed"}


@pytest.mark.parametrize("value", ["secret-canary", "200-ok", "100-continue, x"])
async def test_an_unknown_expectation_has_the_error_format(gateway: Gateway, value: str) -> None:
    """aiohttp answers it before any middleware runs, with its value in a plain text."""
    for target in (FILES, "/nowhere"):
        answer = await gateway.ask(target, f"Expect: {value}")
        assert (answer.status, answer.json) == (417, {"error": "expectation failed"})


async def test_a_body_is_expected_of_nobody(gateway: Gateway) -> None:
    async with await Wire.connect(gateway.port) as wire:
        first = await wire.ask(FILES + "/file", AUTH, "Expect: 100-continue")
        await wire.send(head(FILES + "/file", AUTH, "Content-Length: 7") + b"ignored")
        second = await wire.answer()
        third = await wire.ask(FILES + "/file", AUTH)

    assert [answer.body for answer in (first, second, third)] == [b"content"] * 3


def _modules() -> Iterator[str]:
    for module in pkgutil.walk_packages(package.__path__, "gateway."):
        if not module.name.endswith("__main__"):
            yield module.name


def _kinds(kind: type[GatewayError]) -> set[type[GatewayError]]:
    return {kind}.union(*(_kinds(below) for below in kind.__subclasses__()))


def test_every_error_has_a_status() -> None:
    """Wherever in the package it is defined; and no row is left of one that is gone."""
    for name in _modules():
        import_module(name)

    known = {kind for kind in _kinds(GatewayError) if kind.__module__.startswith("gateway.")}

    assert known == set(STATUS) == set(VERDICTS)
    assert all(400 <= status <= 599 for status in STATUS.values())


def test_the_verdicts_that_another_gateway_understands_are_those_that_are_told() -> None:
    told = {(STATUS[kind], verdict) for kind, verdict in VERDICTS.items()}

    # None is told of a route that there is not.
    assert set(ARCHIVE_REFUSALS) <= told | {(404, "")}
    assert all(re.fullmatch("[a-z_]+", verdict) for verdict in VERDICTS.values())


async def test_a_foreign_session_is_told_from_a_missing_one_by_nothing(root: Path) -> None:
    plant(root, {"hidden/a": b""})
    keys = [key_entry(sessions=["s*"])]

    async with running(root, {"auth": {"keys": keys}}) as gateway:
        answers = [await gateway.file("a", session=session) for session in ("hidden", "s9")]

    told = [
        (answer.status, answer.body, {n: v for n, v in answer.headers if n not in MOMENTARY})
        for answer in answers
    ]
    assert told[0] == told[1]
    assert answers[0].header("X-Workspace-Verdict") == "session_not_found"


@pytest.mark.parametrize("dialect", [NATIVE, Native, Shannon, Dari, Blackbox])
def test_a_dialect_overrides_only_what_there_is(dialect: object) -> None:
    assert set(getattr(dialect, "statuses")) <= set(STATUS)  # noqa: B009


async def test_each_status_that_a_request_can_cause_has_the_error_format(
    root: Path, resolver: ResolverName
) -> None:
    plant(root, {"s1/big": bytes(2000), "s1/d/x": b"", "s1/out": "/etc"})
    limits = {"file": "1000", "requests_per_minute": 14}
    cases = [
        (FILES + "?recursive=x", 400),
        (FILES + "/d", 400),
        (FILES + "/out", 400),
        (FILES + "/missing", 404),
        (FILES + "/big", 413),
        ("/api/v1/sessions/unknown/files", 404),
        ("/api/v1/sessions/-/files", 400),
        ("/nowhere", 404),
    ]
    async with running(root, {"limits": limits, **resolved_by(resolver)}) as gateway:
        answers = [(await gateway.ask(target), status) for target, status in cases]
        answers.append((await gateway.ask(FILES + "/file", 'If-Match: "x"'), 412))
        answers.append((await gateway.ask(FILES + "/file", "Range: bytes=99-"), 416))
        answers.append((await gateway.ask(FILES, method="PUT"), 405))
        answers.append((await ask(gateway.port, FILES), 401))
        while (last := await gateway.ask(FILES)).status == 200:
            pass
        answers.append((last, 429))
    async with running(root / "missing", resolved_by(resolver)) as gateway:
        answers.append((await gateway.ask(FILES), 502))
        answers.append((await gateway.ask(FILES + "/file"), 502))
        answers.append((await gateway.ask("/readyz"), 503))

    for answer, status in answers:
        assert answer.status == status
        assert answer.header("Content-Type") == "application/json; charset=utf-8"
        assert answer.header("X-Content-Type-Options") == "nosniff"
        assert answer.header("Cache-Control") == "private, no-cache"
        assert answer.header("Content-Security-Policy") is None
        assert int(answer.header("Content-Length") or 0) == len(answer.body)
        if status != 503:
            assert list(answer.json) == ["error"]
            assert isinstance(answer.json["error"], str)


def test_who_shall_wait_is_told_how_long() -> None:
    from gateway.http.errors import headers_of

    assert headers_of(TooManyRequests("x", "y", 7))["Retry-After"] == "7"
    assert headers_of(TooManyRequests("x", "y", 0))["Retry-After"] == "1"


# --- deadlines (row 37) ---------------------------------------------------------------------------


@pytest.fixture
async def hasty(root: Path, resolver: ResolverName) -> AsyncIterator[Gateway]:
    """A gateway that waits half a second for a head."""
    changes = {"server": {"header_timeout": "500ms"}, **resolved_by(resolver)}
    async with running(root, changes) as gateway:
        yield gateway


@pytest.mark.parametrize(
    "sent", [b"", b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX-A: ", b"\r\n"]
)
async def test_a_connection_that_says_nothing_is_closed(hasty: Gateway, sent: bytes) -> None:
    began = time.perf_counter()
    async with await Wire.connect(hasty.port) as wire:
        await wire.send(sent)
        data, end = await wire.rest()
        took_s = time.perf_counter() - began

    assert data == b""
    assert end in ("closed", "reset")
    assert 0.3 < took_s < 5


async def test_a_head_that_drips_is_cut_off(hasty: Gateway) -> None:
    """One byte at a time would keep an idle timeout from ever being reached."""
    began = time.perf_counter()
    async with await Wire.connect(hasty.port) as wire:
        with pytest.raises(ConnectionError):
            await _drip(wire, head(FILES, AUTH, "X-Long: " + "x" * 500), 1, 0.02)

    assert time.perf_counter() - began < 8


async def test_the_second_head_on_a_connection_has_the_same_deadline(hasty: Gateway) -> None:
    async with await Wire.connect(hasty.port) as wire:
        assert (await wire.ask(FILES, AUTH)).status == 200
        await asyncio.sleep(0.7)  # idle between requests is no crime
        assert (await wire.ask(FILES, AUTH)).status == 200
        await wire.send(b"GET ")
        began = time.perf_counter()
        data, end = await wire.rest()

    assert data == b""
    assert end in ("closed", "reset")
    assert time.perf_counter() - began < 5


async def test_a_connection_that_is_not_used_again_is_closed(
    root: Path, resolver: ResolverName
) -> None:
    changes = {"server": {"keepalive_timeout": "300ms"}, **resolved_by(resolver)}
    async with (
        running(root, changes) as gateway,
        await Wire.connect(gateway.port) as wire,
    ):
        await wire.ask(FILES, AUTH)
        began = time.perf_counter()
        data, end = await wire.rest()

    assert (data, end) == (b"", "closed")
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("line", ["Content-Length: 5", "Transfer-Encoding: chunked"])
async def test_a_body_that_never_comes_holds_nothing(hasty: Gateway, line: str) -> None:
    """It is answered without the body, and the connection, of no more use, is closed."""
    async with await Wire.connect(hasty.port) as wire:
        answer = await wire.ask(FILES + "/file", AUTH, line)
        began = time.perf_counter()
        data, end = await wire.rest(5)

    assert (answer.status, answer.body) == (200, b"content")
    assert data == b""
    assert end in ("closed", "reset")
    assert time.perf_counter() - began < 3


async def test_a_body_without_end_is_not_read_for_ever(hasty: Gateway) -> None:
    async with await Wire.connect(hasty.port) as wire:
        await wire.send(head(FILES + "/file", AUTH, "Content-Length: 999999999999"))
        with pytest.raises(ConnectionError):
            await _drip(wire, bytes(5_000_000), 10_000, 0.01)


async def _drip(wire: Wire, data: bytes, step: int, pause_s: float) -> None:
    for position in range(0, len(data), step):
        await wire.send(data[position : position + step])
        await asyncio.sleep(pause_s)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_who_still_sends_a_body_does_not_lose_the_answer_to_a_reset(
    gateway: Gateway, version: str
) -> None:
    size = 5_000_000
    lines = ("Connection: close", f"Content-Length: {size}")
    async with await Wire.connect(gateway.port) as wire:
        await wire.send(head("/nowhere", *lines, method="POST", version=version) + bytes(size))
        answer = await wire.answer()
        data, end = await wire.rest()

    assert (answer.status, data, end) == (404, b"", "closed")


async def test_many_silent_connections_leave_room_for_others(
    root: Path, resolver: ResolverName
) -> None:
    """Long before they are closed."""
    changes = {"server": {"header_timeout": "3s"}, **resolved_by(resolver)}
    async with running(root, changes) as gateway:
        wires = [await Wire.connect(gateway.port) for _ in range(200)]
        began = time.perf_counter()
        answer = await gateway.ask(FILES)
        took_s = time.perf_counter() - began
        ends = [(await wire.rest(6))[1] for wire in wires]
        for wire in wires:
            wire.writer.close()

    assert answer.status == 200
    assert took_s < 0.5
    assert "open" not in ends


# --- heads made to be misread ---------------------------------------------------------------------


@pytest.mark.parametrize("fields", MISREAD.values(), ids=MISREAD)
async def test_a_head_that_can_be_misread_is_refused(gateway: Gateway, fields: str) -> None:
    """One answer, the connection closed, and nothing behind it is taken for a request."""
    request = f"GET {FILES}/file HTTP/1.1\r\n{fields}{SMUGGLED}"
    async with await Wire.connect(gateway.port) as wire:
        await wire.send(request.encode("latin-1"))
        data, end = await wire.rest(3)

    assert end != "open"
    assert b"SECRET-CANARY" not in data
    assert data.count(b"HTTP/1.") == 1
    assert data.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
    assert data.endswith(b"\r\n\r\n" + MALFORMED)
    assert b"X-Content-Type-Options: nosniff" in data


_FIRST_LINES = [
    ("GET", 400),
    ("GET /livez", 505),
    ("GET  /livez HTTP/1.1", 200),
    ("GET\t/livez HTTP/1.1", 400),
    (" GET /livez HTTP/1.1", 400),
    ("GET /livez HTTP/1.1 ", 400),
    ("GET /livez  HTTP/1.1", 200),
    ("GET /li vez HTTP/1.1", 400),
    ("GET /livez HTTP/2.0", 505),
    ("GET /livez HTTP/1.9", 400),
    ("GET /livez HTTP/11", 400),
    ("GET /livez HTTP/1", 400),
    ("GET /livez http/1.1", 400),
    ("GET /livez ICE/1.0", 400),
    ("GET livez HTTP/1.1", 400),
    ("GET \\livez HTTP/1.1", 400),
    ("GET /livez\x00 HTTP/1.1", 400),
    ("GET /livez\x7f HTTP/1.1", 400),
    ("GET /liv\xe9 HTTP/1.1", 400),
    ("G\x00T /livez HTTP/1.1", 400),
    ("G(T /livez HTTP/1.1", 400),
    ("GET http://[::1 HTTP/1.1", 400),
    ("GET http://[x]:@ HTTP/1.1", 400),
    ("GET http://a:999999/livez HTTP/1.1", 400),
    ("CONNECT example.com:443 HTTP/1.1", 404),
    ("CONNECT /livez HTTP/1.1", 404),
    ("OPTIONS * HTTP/1.1", 404),
    ("GET * HTTP/1.1", 400),
    ("PRI * HTTP/2.0", 400),
    ("GET /" + "x" * 17_000 + " HTTP/1.1", 400),
    ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ("HTTP/1.1 200 OK", 400),
    ("QUIT", 400),
    ("", 400),
    ("\r\n\r\n\r\n\r\nGET", 400),
]


@pytest.mark.parametrize(("line", "status"), _FIRST_LINES, ids=lambda value: ascii(value)[:40])
async def test_a_strange_request_line_has_exactly_one_answer(
    gateway: Gateway, line: str, status: int
) -> None:
    request = f"{line}\r\nHost: x\r\nConnection: close\r\n\r\n".encode("latin-1")
    async with await Wire.connect(gateway.port) as wire:
        await wire.send(request)
        data, end = await wire.rest(3)

    assert end != "open"
    assert data.count(b"HTTP/") == 1
    assert int(data.split(b" ", 2)[1]) == status
    assert data.rpartition(b"\r\n\r\n")[2].startswith(b"{")
    assert (await gateway.ask("/livez")).status == 200


@pytest.mark.parametrize("end_of_line", ["\n", "\r"])
async def test_a_bare_line_end_ends_no_head(gateway: Gateway, end_of_line: str) -> None:
    """A proxy in front may see another number of requests."""
    eol = end_of_line
    request = f"GET {FILES}/file HTTP/1.1{eol}Host: x{eol}{AUTH}{eol}{eol}" + SMUGGLED
    async with await Wire.connect(gateway.port) as wire:
        await wire.send(request.encode())
        data, end = await wire.rest(3)

    assert end != "open"
    assert data.count(b"HTTP/1.") <= 1
    assert b"SECRET-CANARY" not in data


async def test_a_chunked_body_is_skipped_exactly(gateway: Gateway) -> None:
    """What looks like a request inside a body is none; what comes behind it is one."""
    inside = SMUGGLED.encode()
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(inside), inside)
    async with await Wire.connect(gateway.port) as wire:
        await wire.send(head(FILES + "/file", AUTH, "Transfer-Encoding: chunked") + body)
        await wire.send(head("/livez", "Connection: close"))
        first, second = await wire.answer(), await wire.answer()
        data, end = await wire.rest()

    assert (first.body, second.json) == (b"content", {"status": "alive"})
    assert (data, end) == (b"", "closed")


@pytest.mark.parametrize(
    "body",
    [
        b"5;ext=\n\r\nhello\r\n0\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX-A : b\r\n\r\n",
        b"zz\r\n",
        b"FFFFFFFFFFFFFFFFF\r\n",
    ],
)
async def test_a_chunk_that_can_be_misread_ends_the_connection(
    gateway: Gateway, body: bytes
) -> None:
    async with await Wire.connect(gateway.port) as wire:
        await wire.send(head(FILES + "/file", AUTH, "Transfer-Encoding: chunked"))
        await wire.send(body + SMUGGLED.encode())
        data, end = await wire.rest(3)

    assert end != "open"
    assert b"SECRET-CANARY" not in data


@pytest.mark.parametrize("target", [FILES + "/file", "/v1/agents/agt_123/sessions"])
async def test_a_chunk_that_is_malformed_is_not_waited_for(
    root: Path, resolver: ResolverName, target: str
) -> None:
    """Also where it comes after what had been understood of the body."""
    async with (
        running(root, with_agents(**resolved_by(resolver))) as gateway,
        await Wire.connect(gateway.port) as wire,
    ):
        lines = (f"X-API-Key: {ACME}", "Transfer-Encoding: chunked")
        await wire.send(head(target, *lines, method="POST") + b"2\r\n{}\r\n")
        await asyncio.sleep(0.1)
        await wire.send(b"zz\r\n" + SMUGGLED.encode())
        data, end = await wire.rest(3)

    assert end != "open"
    assert data.count(b"HTTP/1.") == 1
    assert data.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 405 "))


async def test_chunks_that_http_1_0_does_not_have_are_the_last_of_a_connection(
    gateway: Gateway,
) -> None:
    """A proxy may see the end of the body elsewhere."""
    lines = ("Connection: keep-alive", "Transfer-Encoding: chunked")
    async with await Wire.connect(gateway.port) as wire:
        await wire.send(head("/livez", *lines, version="1.0") + b"0\r\n\r\n" + head("/livez"))
        answer = await wire.answer()
        data, end = await wire.rest(3)

    assert (answer.status, answer.header("Connection")) == (200, "close")
    assert (data, end) == (b"", "closed")


@pytest.mark.parametrize("kind", ["websocket", "h2c", "TLS/1.0"])
@pytest.mark.parametrize("following", [SMUGGLED, SMUGGLED[:40]])
async def test_an_upgrade_is_declined_for_good(gateway: Gateway, kind: str, following: str) -> None:
    """aiohttp loses what follows an unknown one; it must not go on in the middle of something."""
    async with await Wire.connect(gateway.port) as wire:
        lines = (AUTH, "Connection: Upgrade, HTTP2-Settings", f"Upgrade: {kind}")
        await wire.send(head(FILES + "/file", *lines) + following.encode())
        answer = await wire.answer()
        data, end = await wire.rest(3)

    assert (answer.status, answer.body) == (200, b"content")
    assert answer.header("Connection") == "close"
    assert (data, end) in ((b"", "closed"), (b"", "reset"))


async def test_long_heads_that_are_allowed(gateway: Gateway) -> None:
    long_field = await gateway.file("file", "X-A: " + "x" * 8192)
    long_cookie = await gateway.file("file", *("Cookie: " + "x" * 4000 for _ in range(3)))
    encoded = "".join(f"%{ord('x'):02x}" for _ in range(255))
    long_target = await gateway.file("/".join([encoded] * 15))

    assert (long_field.status, long_cookie.status) == (200, 200)
    assert (long_target.status, long_target.json) == (404, {"error": "file not found"})


async def test_head_to_the_wrong_place_leaks_no_bytes(gateway: Gateway) -> None:
    """A refused HEAD has no body either."""
    async with await Wire.connect(gateway.port) as wire:
        for target in ("/nowhere", FILES + "/../x", "/api/v1/sessions/-/files"):
            answer = await wire.ask(target, AUTH, method="HEAD")
            assert answer.status in (400, 404)
        assert (await wire.ask("/livez")).json == {"status": "alive"}


async def test_more_requests_than_wait_at_once_are_all_answered(gateway: Gateway) -> None:
    """Reading goes on whenever half of those that wait have been answered."""
    count = 500
    async with await Wire.connect(gateway.port) as wire:
        await wire.send(head(FILES + "/file", AUTH) * count + head("/livez", "Connection: close"))
        answers = [await wire.answer() for _ in range(count + 1)]
        data, end = await wire.rest()

    assert [answer.body for answer in answers[:-1]] == [b"content"] * count
    assert (answers[-1].json, data, end) == ({"status": "alive"}, b"", "closed")


async def test_requests_behind_a_late_body_are_all_answered(gateway: Gateway) -> None:
    """aiohttp's parser counts such a body as one more request that waits."""
    async with await Wire.connect(gateway.port) as wire:
        assert (await wire.ask("/livez", "Content-Length: 2")).status == 200
        await wire.send(b"{}")
        await asyncio.sleep(0.1)
        await wire.send(head("/livez") * 40)
        answers = [await asyncio.wait_for(wire.answer(), 5) for _ in range(40)]

    assert [answer.status for answer in answers] == [200] * 40


async def test_who_sends_many_requests_at_once_takes_turns_with_others(gateway: Gateway) -> None:
    """Answers from memory never wait: one connection's would all come before anybody else's."""
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        if turns < 100:
            loop.call_soon(turn)

    loop = asyncio.get_running_loop()
    async with await Wire.connect(gateway.port) as wire:
        await wire.send(head("/livez") * 100)
        turn()
        for _ in range(100):
            await wire.answer()

    assert turns == 100
