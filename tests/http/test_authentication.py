"""Who gets in, what everybody else is told, and where a key must never appear."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.store.store import opened
from tests import stores
from tests.conftest import ResolverName
from tests.gateways import (
    AUTH,
    KEY,
    Gateway,
    command,
    key_entry,
    plant,
    resolved_by,
    running,
    store_address,
)
from tests.wire import Answer, Wire, ask, head

FILES = "/api/v1/sessions/s1/files"
REJECTED = b'{"error":"missing or invalid credentials"}'
CANARY = "canary-3f9c1e7a"


@pytest.fixture(autouse=True)
def file(root: Path) -> None:
    plant(root, {"s1/file": b"content"})


@pytest.mark.parametrize(
    "lines",
    [
        (),
        ("X-API-Key:",),
        ("X-API-Key: ",),
        ("X-API-Key: wrong",),
        (f"X-API-Key: {KEY} x",),
        (f"X-API-Key: {KEY.upper()}",),
        (f"X-API-Key: {KEY[:-1]}",),
        (f'X-API-Key: "{KEY}"',),
        (f"X-API-Key: Bearer {KEY}",),
        ("X-API-Key: wrong", "Authorization: Bearer wrong"),
        (AUTH, AUTH),
        (AUTH, "x-api-key: other"),
        (AUTH, "X-API-Key:"),
        (AUTH, "Authorization: Bearer other"),
        (AUTH, "Authorization: Bearer"),
        (AUTH, f"Authorization: Basic {KEY}"),
        (AUTH, "Authorization:"),
        (f"Authorization: Bearer {KEY}", f"Authorization: Bearer {KEY}"),
        (f"Authorization: {KEY}",),
        (f"Authorization: Bearer{KEY}",),
        (f"Authorization: Basic {KEY}",),
        ("Authorization: Basic dXNlcjpwYXNz",),
        ("Authorization: Bearer",),
        ("Authorization: Bearer ",),
        ("Authorization:",),
        (f"Authorization: Bearer {KEY}, Bearer {KEY}",),
        (f"Authorization: Bearer {KEY},{KEY}",),
        (b"X-API-Key: \xff\xfe",),
        (b"Authorization: Bearer \xff\xfe",),
        (b"Authorization: \xff\xfe",),
        ("X-API-Key: café",),
        ("Authorization: Bearer café",),
        (b"X-API-Key: caf\xe9",),
        ("X-API-Key: " + "k" * 8192,),
        ("Authorization: Bearer " + "k" * 8192,),
        (f"Cookie: X-API-Key={KEY}",),
        (f"X-Api-Token: {KEY}",),
        (f"Proxy-Authorization: Bearer {KEY}",),
        (f"X_API_KEY: {KEY}",),
    ],
    ids=lambda lines: repr(lines)[:60],
)
async def test_without_one_good_key_everything_looks_alike(
    gateway: Gateway, lines: tuple[str | bytes, ...]
) -> None:
    """Row 29: also whether the session, the file or the parameters would be good."""
    targets = [
        FILES,
        FILES + "/file",
        FILES + "/missing",
        FILES + "/../x",
        FILES + "?recursive=maybe",
        "/api/v1/sessions/unknown/files",
        "/api/v1/sessions/%2e%2e/files",
        FILES + f"?X-API-Key={KEY}&api_key={KEY}&key={KEY}&access_token={KEY}",
    ]

    for target in targets:
        for method in ("GET", "HEAD"):
            answer = await ask(gateway.port, target, *lines, method=method)
            assert answer.status == 401
            assert answer.body == (REJECTED if method == "GET" else b"")
            assert _fixed(answer) == {
                "Content-Type": "application/json; charset=utf-8",
                "Content-Length": str(len(REJECTED)),
                "WWW-Authenticate": 'Bearer realm="workspace-gateway"',
                "Server": "workspace-gateway",
                "X-Workspace-Verdict": "credentials_rejected",
                "X-Content-Type-Options": "nosniff",
                "Cache-Control": "private, no-cache",
                "Referrer-Policy": "no-referrer",
            }


def _fixed(answer: Answer) -> dict[str, str]:
    return {k: v for k, v in answer.headers if k not in ("Date", "X-Request-ID")}


@pytest.mark.parametrize(
    "lines",
    [
        (AUTH,),
        (f"x-api-key: {KEY}",),
        (f"X-API-KEY:{KEY}",),
        (f"X-API-Key:  \t{KEY} \t",),
        (f"Authorization: Bearer {KEY}",),
        (f"authorization: bearer {KEY}",),
        (f"AUTHORIZATION: BEARER {KEY}",),
        (f"Authorization: bEaReR   {KEY}  ",),
        (AUTH, f"Authorization: Bearer {KEY}"),
    ],
)
async def test_a_good_key_gets_in(gateway: Gateway, lines: tuple[str, ...]) -> None:
    answer = await ask(gateway.port, FILES + "/file", *lines)

    assert (answer.status, answer.body) == (200, b"content")


async def test_a_key_need_not_be_ascii(root: Path) -> None:
    entry = key_entry("schlüssel")
    async with running(root, {"auth": {"keys": [entry]}}) as gateway:
        answer = await ask(gateway.port, FILES, "X-API-Key: schlüssel")

    assert answer.status == 200


@pytest.mark.parametrize(
    ("scopes", "status"),
    [
        (["files:read"], 200),
        (["admin"], 200),
        (["sessions:read", "files:read"], 200),
        (["archives:read"], 403),
        (["sessions:read", "sessions:write", "archives:read", "links:write"], 403),
    ],
)
async def test_a_scope_is_needed(root: Path, scopes: list[str], status: int) -> None:
    async with running(root, {"auth": {"keys": [key_entry(scopes=scopes)]}}) as gateway:
        answers = [
            await gateway.files(),
            await gateway.file("file"),
            await gateway.file("missing"),
            await gateway.file("file", session="unknown"),
        ]

    if status == 200:
        assert [answer.status for answer in answers] == [200, 200, 404, 404]
    else:
        assert {(a.status, a.body) for a in answers} == {
            (403, b'{"error":"this key lacks the scope files:read"}')
        }


@pytest.mark.parametrize(
    ("patterns", "sees"),
    [
        (["*"], True),
        (["s*"], True),
        (["s?"], True),
        (["s[0-9]"], True),
        (["other", "s1"], True),
        (["S1"], False),
        (["s"], False),
        (["s1?"], False),
        (["team-*"], False),
    ],
)
async def test_a_session_that_the_key_may_not_see_does_not_exist(
    root: Path, resolver: ResolverName, patterns: list[str], sees: bool
) -> None:
    """Row 30: byte for byte."""
    changes = {"auth": {"keys": [key_entry(sessions=patterns)]}, **resolved_by(resolver)}
    async with running(root, changes) as gateway:
        for path in ("", "?recursive=1", "?path=d", "/file", "/missing", "/file?digest=sha256"):
            for method in ("GET", "HEAD"):
                one, other = [
                    await gateway.ask(f"/api/v1/sessions/{s}/files{path}", method=method)
                    for s in ("s1", "unknown")
                ]
                assert other.status == 404
                if not sees:
                    assert one.status == other.status
                    assert one.body == other.body
                    assert _fixed(one) == _fixed(other)
                elif path == "/file":
                    assert one.status == 200


async def test_each_key_sees_its_own(root: Path) -> None:
    plant(root, {"s2/file": b"two"})
    keys = [
        key_entry("one", id="one", org="a", sessions=["s1"]),
        key_entry("two", id="two", org="b", sessions=["s2"]),
    ]
    async with running(root, {"auth": {"keys": keys}}) as gateway:
        seen = [
            (await ask(gateway.port, f"/api/v1/sessions/{s}/files/file", f"X-API-Key: {k}")).status
            for k in ("one", "two")
            for s in ("s1", "s2")
        ]

    assert seen == [200, 404, 404, 200]


@pytest.mark.parametrize(("hours", "status"), [(-1, 401), (1, 200)])
async def test_a_key_expires(root: Path, hours: int, status: int) -> None:
    when = (datetime.now(UTC) + timedelta(hours=hours)).isoformat()
    async with running(root, {"auth": {"keys": [key_entry(expires=when)]}}) as gateway:
        answer = await gateway.files()

    assert answer.status == status
    if status == 401:
        assert answer.body == REJECTED


async def test_a_key_expires_while_the_gateway_runs(root: Path) -> None:
    when = datetime.now(UTC) + timedelta(seconds=4)
    async with running(root, {"auth": {"keys": [key_entry(expires=when.isoformat())]}}) as gateway:
        before = (await gateway.files()).status
        await asyncio.sleep((when - datetime.now(UTC)).total_seconds() + 0.1)
        after = (await gateway.files()).status

    assert (before, after) == (200, 401)


@pytest.mark.parametrize("auth", [{}, {"keys": []}, {"allow_unauthenticated": False, "keys": []}])
async def test_no_configured_key_means_nobody(root: Path, auth: dict[str, Any]) -> None:
    async with running(root, {"auth": {"keys": [], **auth}}) as gateway:
        answers = [
            await gateway.files(),
            await ask(gateway.port, FILES),
            # the digest of nothing at all must not be one that a stand-in has
            await ask(gateway.port, FILES, "X-API-Key: " + "0" * 64),
        ]

    assert [answer.status for answer in answers] == [401, 401, 401]


async def test_open_access_is_written_out(root: Path) -> None:
    """A wrong key is still refused: its holder believes to be somebody."""
    changes = {"auth": {"allow_unauthenticated": True}}
    async with running(root, changes) as gateway:
        anonymous = await ask(gateway.port, FILES + "/file")
        known = await gateway.file("file")
        wrong = await ask(gateway.port, FILES + "/file", "X-API-Key: wrong")

    assert (anonymous.status, known.status, wrong.status) == (200, 200, 401)


async def test_health_asks_for_no_key(gateway: Gateway) -> None:
    for path in ("/livez", "/readyz", "/healthz", "/health", "/readiness"):
        assert (await ask(gateway.port, path)).status == 200
    assert (await ask(gateway.port, "/metrics")).status == 404
    assert (await ask(gateway.admin_port, "/metrics")).status == 200
    assert (await ask(gateway.admin_port, FILES, AUTH)).status == 404


async def test_guessing_is_throttled_by_address(root: Path, resolver: ResolverName) -> None:
    """Row 31."""
    changes = {
        "limits": {"auth_failures_per_minute": 20},
        "server": {"trusted_proxies": ["127.0.0.0/8"]},
        **resolved_by(resolver),
    }
    async with running(root, changes) as gateway:
        guesses = await asyncio.gather(
            *(
                ask(gateway.port, FILES, f"X-API-Key: guess-{n}", "X-Forwarded-For: 203.0.113.9")
                for n in range(50)
            )
        )
        refused = [answer for answer in guesses if answer.status == 429]
        guesser = await gateway.files("", "X-Forwarded-For: 203.0.113.9")
        elsewhere = await gateway.files("", "X-Forwarded-For: 203.0.113.10")
        alive = await ask(gateway.port, "/livez", "X-Forwarded-For: 203.0.113.9")

    assert {answer.status for answer in guesses} == {401, 429}
    assert len(refused) == 30
    for answer in (*refused, guesser):
        assert answer.status == 429
        assert 1 <= int(answer.header("Retry-After") or 0) <= 60
        assert answer.json["error"].startswith("too many requests")
    assert (elsewhere.status, alive.status) == (200, 200)


async def test_a_key_has_a_rate(root: Path) -> None:
    keys = [key_entry("one", id="one"), key_entry("two", id="two")]
    changes = {"auth": {"keys": keys}, "limits": {"requests_per_minute": 5}}
    async with running(root, changes) as gateway:
        mine = [await ask(gateway.port, FILES, "X-API-Key: one") for _ in range(8)]
        other = await ask(gateway.port, FILES, "X-API-Key: two")

    assert [answer.status for answer in mine] == [200] * 5 + [429] * 3
    assert mine[-1].header("Retry-After") == "12"
    assert other.status == 200


async def test_another_organisations_key_of_the_same_id_has_a_rate_of_its_own(root: Path) -> None:
    """One may be in the config and one in the store."""
    changes = {
        "auth": {"keys": [key_entry("mine", id="one")]},
        "limits": {"requests_per_minute": 5},
        "sessions": {"register": "strict"},
    }
    async with opened(store_address(root)) as store, running(root, changes) as gateway:
        await store.keys.create(stores.key("one", org="other"))
        mine = [await ask(gateway.port, FILES, "X-API-Key: mine") for _ in range(6)]
        theirs = await ask(gateway.port, FILES, "X-API-Key: one")

    assert [answer.status for answer in mine] == [404] * 5 + [429]
    assert theirs.status == 404


async def test_an_executor_that_has_no_slot_free_is_worth_another_try(root: Path) -> None:
    """What is overloaded is this gateway, not a backend that could not answer."""
    plant(root, {"s1/large": bytes(64 << 20)})
    local = {"type": "local", "root": str(root), "concurrency": 1, "timeout": {"first_byte": "1s"}}
    async with running(root, {"executors": {"local": local}}) as gateway:
        _, slow = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1024)
        slow.write(head(f"{FILES}/large", AUTH))
        await asyncio.sleep(0.3)
        full = await gateway.file("large")
        slow.transport.abort()
        again = await until_status(gateway, AUTH, 200)

    assert (full.status, full.header("Retry-After")) == (503, "1")
    assert full.json == {"error": "the executor has too much to do"}
    assert again.status == 200


async def test_an_organisation_has_only_so_many_requests_under_way(root: Path) -> None:
    """Its slow readers must not take what others need; who leaves makes room."""
    plant(root, {"s1/large": bytes(64 << 20)})
    keys = [key_entry("one", id="one"), key_entry("two", id="two", org="other")]
    changes = {"auth": {"keys": keys}, "limits": {"requests_at_once": 1}}
    async with running(root, changes) as gateway:
        _, slow = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1024)
        slow.write(head(f"{FILES}/large", "X-API-Key: one"))
        mine = await until_status(gateway, "X-API-Key: one", 429)
        other = await ask(gateway.port, FILES, "X-API-Key: two")
        slow.transport.abort()
        again = await until_status(gateway, "X-API-Key: one", 200)

    assert mine.header("Retry-After") == "1"
    assert other.status == 200
    assert again.status == 200


async def until_status(gateway: Gateway, key: str, status: int) -> Answer:
    """Ask until the answer has that status, two seconds at most."""
    async with asyncio.timeout(2):
        while (answer := await ask(gateway.port, FILES, key)).status != status:
            await asyncio.sleep(0.01)
    return answer


@pytest.mark.parametrize(
    ("trusted", "lines", "counted_as"),
    [
        ([], ["203.0.113.1"], "peer"),
        (["10.0.0.0/8"], ["203.0.113.1"], "peer"),
        (["127.0.0.0/8"], [], "peer"),
        (["127.0.0.0/8"], ["203.0.113.1"], "203.0.113.1"),
        (["127.0.0.1/32"], ["9.9.9.9, 203.0.113.1"], "203.0.113.1"),
        (["127.0.0.0/8"], ["9.9.9.9", "203.0.113.1"], "203.0.113.1"),
        (["127.0.0.0/8", "10.0.0.0/8"], ["9.9.9.9, 203.0.113.1, 10.1.1.1"], "203.0.113.1"),
        (["127.0.0.0/8", "10.0.0.0/8"], ["203.0.113.1, 10.1.1.1,10.2.2.2"], "203.0.113.1"),
        (["127.0.0.0/8", "10.0.0.0/8"], ["203.0.113.1, 10.1.1.1, rubbish"], "peer"),
        (["127.0.0.0/8"], ["rubbish"], "peer"),
        (["127.0.0.0/8"], [""], "peer"),
        (["127.0.0.0/8"], [","], "peer"),
        (["127.0.0.0/8"], ["203.0.113.1:1234"], "peer"),
        (["127.0.0.0/8"], ["2001:db8::1"], "2001:db8::ffff"),
        (["127.0.0.0/8"], ["::ffff:203.0.113.1"], "203.0.113.1"),
    ],
)
async def test_whose_failures_are_counted(
    root: Path, trusted: list[str], lines: list[str], counted_as: str
) -> None:
    """What a client writes into `X-Forwarded-For` itself, the left part, counts for nothing.

    One failure uses up the rate of whoever it is counted for; who that was, a second tells.
    """
    changes = {
        "limits": {"auth_failures_per_minute": 1},
        "server": {"trusted_proxies": trusted},
    }
    forwarded = [f"X-Forwarded-For: {line}" for line in lines]
    claimed = [] if counted_as == "peer" else [f"X-Forwarded-For: {counted_as}"]
    async with running(root, changes) as gateway:
        first = await ask(gateway.port, FILES, "X-API-Key: wrong", *forwarded)
        same = await ask(gateway.port, FILES, "X-API-Key: wrong", *claimed)
        other = await ask(gateway.port, FILES, "X-API-Key: wrong", "X-Forwarded-For: 198.51.100.7")

    assert (first.status, same.status) == (401, 429)
    is_believed = "127.0.0.0/8" in trusted or "127.0.0.1/32" in trusted
    assert other.status == (401 if is_believed else 429)


_MALFORMED = [
    f"GET {FILES} HTTP/1.1\r\nHost: x\r\nX-API-Key : {CANARY}\r\n\r\n",
    f"GET {FILES} HTTP/1.1\r\nHost: x\r\nX-API-Key: {CANARY}\0\r\n\r\n",
    f"GET {FILES} HTTP/1.1\r\nHost: x\r\nX-API-Key: a\r\n {CANARY}\r\n\r\n",
    f"GET {FILES} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {CANARY}\x01\r\n\r\n",
    f"GET {FILES} HTTP/1.1\r\nHost: x\r\nX-API-Key: {CANARY}{'k' * 20_000}\r\n\r\n",
    f"GET {FILES} HTTP/1.1\r\nHost: x\r\n{CANARY}\r\n\r\n",
    f"GET {FILES} HTTP/1.1\r\nHost: x\r\n: {CANARY}\r\n\r\n",
    f"GET {FILES} HTTP/1.1\r\nHost: x\r\nX-API-Key: {CANARY}\r\nContent-Length: x\r\n\r\n",
    f"GET {FILES} HTTP/1.1\r\nHost: x\r\nX-API-Key: {CANARY}\r\nContent-Length: 1\r\n"
    "Transfer-Encoding: chunked\r\n\r\n",
    f"GET {FILES} HTTP/9.9\r\nHost: x\r\nX-API-Key: {CANARY}\r\n\r\n",
    f"GET http://[ HTTP/1.1\r\nHost: x\r\nX-API-Key: {CANARY}\r\n\r\n",
    f"GET http://a:99999999{FILES} HTTP/1.1\r\nHost: x\r\nX-API-Key: {CANARY}\r\n\r\n",
    f"GET {FILES} HTTP/1.1\r\nHost: [{CANARY}\r\nX-API-Key: {CANARY}\r\n\r\n",
    f"GET {FILES} HTTP/1.1\r\nHost: x\r\nExpect: {CANARY}\r\nX-API-Key: {CANARY}\r\n\r\n",
    f"{CANARY} {FILES} HTTP/1.1\r\nHost: x\r\n\r\n",
    f"X-API-Key: {CANARY}\r\n\r\n",
    f"GET {FILES} HTTP/1.1\r\nHost: x\r\nX-API-Key: {CANARY}\r\n\r\n",
    f"GET {FILES} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {CANARY}\r\n\r\n",
    f"GET {FILES} HTTP/1.1\r\nHost: x\r\nAuthorization: {CANARY}\r\n\r\n",
    f"GET {FILES} HTTP/1.1\r\nHost: x\r\nX-Request-ID: {CANARY} x\r\n\r\n",
    f"POST {FILES} HTTP/1.1\r\nHost: x\r\nX-API-Key: {CANARY}\r\nTransfer-Encoding: chunked\r\n\r\n"
    f"zz{CANARY}\r\n",
    f"GET {FILES} HTTP/1.1\r\nHost: x\r\nX-API-Key: {CANARY}\r\nCookie: {CANARY}\r\n\r\n",
    f"GET {FILES} HTTP/1.1\r\nX-API-Key: {CANARY}\r\nUpgrade: websocket\r\n"
    "Connection: upgrade\r\n\r\n"
    f"{CANARY}",
    f"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{CANARY}",
]


async def test_no_key_is_ever_logged_or_answered(tmp_path: Path, root: Path) -> None:
    """Not by us, and not by a library that logs what it could not parse."""
    with command(tmp_path, root, environment={"PYTHONASYNCIODEBUG": "1"}) as process:
        for request in _MALFORMED:
            async with await Wire.connect(process.port) as wire:
                await wire.send(request.encode("latin-1"))
                wire.writer.write_eof()
                answer, end = await wire.rest(3)
            assert CANARY.encode() not in answer, request
            assert end != "open"
        still_serves = await ask(process.port, FILES, AUTH)
    log = process.log.read_text()

    assert still_serves.status == 200
    assert CANARY not in log
    assert KEY not in log
    assert "Traceback" not in log
    records = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert sum(record["event"] == "request_malformed" for record in records) >= 8
    assert all(record["level"] != "error" for record in records)


async def test_a_request_that_is_refused_closes_nothing(gateway: Gateway) -> None:
    """A wrong key on a shared proxy connection must not cost the next client its connection."""
    async with await Wire.connect(gateway.port) as wire:
        await wire.send(head(FILES, "X-API-Key: wrong") + head(FILES, AUTH))
        first, second = await wire.answer(), await wire.answer()

    assert (first.status, second.status) == (401, 200)
