"""The gateway behind the real nginx and Caddy, with the configurations that are shipped."""

import asyncio
import hashlib
import os
import re
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from httpx_sse import aconnect_sse

from gateway.domain.model import Scope
from tests import wire
from tests.e2e.operating import FILES, Clients, eventually, log_of, logged, made_link
from tests.e2e.proxies import Proxy, caddy, nginx
from tests.gateways import AUTH, KEY, Process, command, key_entry, plant

PROXIES: dict[str, Callable[[Path, str | int], AbstractContextManager[Proxy]]] = {
    "nginx": nginx,
    "caddy": caddy,
}
BY_PROXY = {"server", "date", "connection", "transfer-encoding", "content-length", "x-request-id"}
LISTING = {f"many/{number:04}": b"" for number in range(3000)}
CONTENT = {
    "s1/a.txt": b"hello\n",
    "s1/empty": b"",
    "s1/d/e/f.csv": b"a,b\n1,2\n",
    "s1/a..b": b"dots",
    "s1/%2e%2e": b"encoded dots",
    "s1/a b+c%41?x#y.txt": b"marks",
    "s1/caf\u00e9": b"accent",
    b"s1/not-utf8-\xff": b"bytes",
    "s1/new\nline": b"line",
    "s1/big.bin": os.urandom(1 << 20) * 3,
    "s1/link": "/etc/passwd",
    **{f"s1/{name}": content for name, content in LISTING.items()},
}

AUTHORIZED = {"keys": [key_entry(scopes=[scope.value for scope in Scope])]}


@dataclass
class Behind:
    """A gateway, where it listens, and the proxy in front of it."""

    gateway: Process
    direct: str | int
    proxy: Proxy

    async def both(
        self, target: str | bytes, *headers: str | bytes, **options: str
    ) -> tuple[wire.Answer, wire.Answer]:
        """What is answered without the proxy, and with it."""
        return (
            await wire.ask(self.direct, target, *headers, **options),
            await wire.ask(self.proxy.port, target, *headers, **options),
        )


@contextmanager
def behind(name: str, tmp: Path, root: Path, **changes: Any) -> Iterator[Behind]:
    path = str(tmp / "http.sock")
    server = {"socket": path, **changes.pop("server", {})}
    with (
        command(tmp, root, {"server": server, **changes}) as gateway,
        PROXIES[name](tmp / name, path) as proxy,
    ):
        yield Behind(gateway, path, proxy)


@pytest.fixture(scope="module", params=list(PROXIES))
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Behind]:
    """One gateway on a unix socket behind each proxy."""
    tmp = tmp_path_factory.mktemp(request.param)
    with behind(request.param, tmp, plant(tmp / "workspaces", CONTENT), auth=AUTHORIZED) as running:
        yield running


def headers(answer: wire.Answer) -> dict[str, str]:
    """All headers but those that belong to a connection."""
    return {n.lower(): v for n, v in answer.headers if n.lower() not in BY_PROXY}


ROUTES = [
    ("/livez", ()),
    ("/readyz", ()),
    ("/healthz", ()),
    ("/nowhere", ()),
    (FILES, ()),
    (FILES, (AUTH,)),
    (FILES, ("Authorization: Bearer sk_test_123456",)),
    (FILES, (AUTH, "X-API-Key: other")),
    (f"{FILES}?path=%2Fetc", (AUTH,)),
    (f"{FILES}?recursive=true", (AUTH,)),
    (f"{FILES}?path=d/e&glob=*.csv", (AUTH,)),
    (f"{FILES}?limit=2", (AUTH,)),
    (f"{FILES}?limit=2", (AUTH, "Content-Type: application/json")),
    (f"{FILES}/a.txt", (AUTH,)),
    (f"{FILES}/a.txt", (AUTH, "Content-Type: application/json")),
    (f"{FILES}/a.txt", (AUTH, "Accept-Encoding: gzip, br")),
    (f"{FILES}/a.txt?digest=sha256", (AUTH,)),
    (f"{FILES}/empty", (AUTH,)),
    (f"{FILES}/big.bin", (AUTH,)),
    (f"{FILES}/big.bin", (AUTH, "Range: bytes=1000-2000000")),
    (f"{FILES}/big.bin", (AUTH, "Range: bytes=3145728-")),
    (f"{FILES}/big.bin", (AUTH, "Range: nonsense")),
    (f"{FILES}/big.bin", (AUTH, "If-None-Match: *")),
    (f"{FILES}/big.bin", (AUTH, 'If-Match: "other"')),
    (f"{FILES}/link", (AUTH,)),
    (f"{FILES}/none", (AUTH,)),
    ("/api/v1/sessions/s2/files", (AUTH,)),
    ("/api/v1/sessions/-/files", (AUTH,)),
    ("/_workspace_files/local/s1/a.txt", (AUTH,)),
    ("/api/v1/sessions/s1/archive", (AUTH,)),
    ("/api/v1/sessions/s1/archive?format=tar.gz&path=d", (AUTH,)),
    ("/api/v1/sessions/s1/archive?format=tar&exclude=many/**", (AUTH, "Range: bytes=1000-2000")),
    ("/v1/sessions", (AUTH,)),
    ("/v1/sessions/s1", (AUTH,)),
    ("/v1/sessions/s1/workspace.zip", (AUTH,)),
    ("/v1/sessions/s1/workspace.zip", (AUTH, "If-None-Match: *")),
    ("/v1/agents/a1/sessions", (AUTH,)),
    ("/api/v1/tasks/s1/files/download?path=/", (AUTH,)),
    ("/api/v1/tasks/s1/files/download?path=a.txt", (AUTH,)),
    ("/api/v1/sessions/s1/links", (AUTH,)),
    ("/api/v1/links/none", (AUTH,)),
    ("/d/none", ()),
]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize(("target", "given"), ROUTES, ids=str)
async def test_every_route_answers_as_without_a_proxy(
    both: Behind, target: str, given: tuple[str, ...], method: str
) -> None:
    direct, proxied = await both.both(target, *given, method=method)

    assert proxied.complete
    assert (proxied.status, proxied.body) == (direct.status, direct.body)
    assert headers(proxied) == headers(direct)
    if method == "GET" or direct.header("Content-Length"):
        lengths = [a.header("Content-Length") for a in (direct, proxied)]
        assert lengths[0] == lengths[1] or direct.header("Transfer-Encoding")


@pytest.mark.parametrize("target", [f"{FILES}/big.bin", f"{FILES}?recursive=true", FILES])
async def test_an_old_client_gets_the_same(both: Behind, target: str) -> None:
    direct, proxied = await both.both(target, AUTH, version="1.0")

    assert (proxied.status, proxied.body) == (direct.status, direct.body)


RAW = [
    *("../x", "..", "../", "a/..", "a/../b", "d/../a.txt", "./a.txt", "d/./e/f.csv"),
    *("%2e%2e/x", ".%2e/x", "%2E%2E%2Fx", "a%2F..%2Fb", "%2e%2e%2f%2e%2e%2fs2%2fx"),
    *("/etc/passwd", "//etc/passwd", "%2Fetc%2Fpasswd", "//x", "d//e///f.csv"),
    *("..%5c..%5cx", "..\\..\\x", "a\\..\\b", "%5c%5cx"),
    *("%252e%252e", "%252e%252e%252fetc", "%25252e%25252e%25252f"),
    *("%c0%ae%c0%ae/x", "%e0%80%ae", "%EF%BC%8E%EF%BC%8E/x", "..;/x", "....//x", "%u002e%u002e/x"),
    *("a.txt%00", "%00", "a%00/../../x", "%0d%0aX-Injected:%20y", "a.txt%0a"),
    *("a..b", "a%20b%2Bc%2541%3Fx%23y.txt", "caf%C3%A9", "not-utf8-%FF", "new%0Aline"),
    *("a.txt?../x", "a.txt?path=/../..", "a.txt/", "d", "d/", "%", "%z", "a.txt%"),
    *("../../../../../../etc/passwd", "../../../../../../../../etc/passwd"),
    *("..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd", "%61.txt", "d%2Fe%2Ff.csv"),
    *("x" * 4095, "%78" * 4095, "x" * 4096, "../" * 1000),
    *(b"caf\xc3\xa9", b"not-utf8-\xff", b"a\x01b", b"a\x7fb", b'a"b<c>{d}|^`'),
]


@pytest.mark.parametrize("raw", RAW, ids=lambda raw: repr(raw)[:40])
@pytest.mark.parametrize("base", [FILES, "/api/v1/sessions/s1/../s1/files"])
async def test_a_hostile_path_gets_the_same_answer_or_the_proxys_own_400(
    both: Behind, base: str, raw: str | bytes
) -> None:
    target = f"{base}/".encode() + (raw if isinstance(raw, bytes) else raw.encode())
    direct, proxied = await both.both(target, AUTH)
    # What a URI cannot hold, Go's parser percent-encodes.
    as_uri = await wire.ask(both.direct, re.sub(rb"[\x80-\xff]", _encoded, target), AUTH)

    if (proxied.status, proxied.body) not in {(a.status, a.body) for a in (direct, as_uri)}:
        assert proxied.status == 400
        assert proxied.header("X-Workspace-Source") is None
    assert b"root:" not in proxied.body


def _encoded(byte: re.Match[bytes]) -> bytes:
    return b"%%%02X" % byte[0][0]


async def test_a_link_works_through_the_proxy(both: Behind) -> None:
    url = await made_link(both.proxy.port, path="a.txt")
    answer = await wire.ask(both.proxy.port, url)

    assert (answer.status, answer.body) == (200, CONTENT["s1/a.txt"])


async def test_an_event_comes_through_the_proxy_when_it_happens(both: Behind) -> None:
    url = f"http://127.0.0.1:{both.proxy.port}/v1/sessions/s1/stream"
    headers = {"X-API-Key": KEY, "Last-Event-ID": "0"}
    async with (
        httpx.AsyncClient(headers=headers, timeout=10) as client,
        aconnect_sse(client, "GET", url) as source,
    ):
        await wire.ask(both.direct, f"{FILES}/a.txt", AUTH)
        event = await anext(source.aiter_sse())

    assert event.event == "workspace.downloaded"


async def test_the_request_id_is_passed_on_and_made_where_there_is_none(both: Behind) -> None:
    ours = await wire.ask(both.proxy.port, FILES, AUTH, "X-Request-ID: from-the-client.1")
    made = await wire.ask(both.proxy.port, FILES, AUTH)

    assert ours.header("X-Request-ID") == "from-the-client.1"
    given = made.header("X-Request-ID")
    assert given is not None
    lines = await logged(both.gateway, "http_request")
    assert {"from-the-client.1", given} <= {line["request_id"] for line in lines}


@pytest.mark.parametrize("name", list(PROXIES))
@pytest.mark.parametrize("over", ["unix", "tcp"])
async def test_clients_are_throttled_by_their_own_address(
    tmp_path: Path, root: Path, name: str, over: str
) -> None:
    """Not by the one that they claim."""
    path = str(tmp_path / "http.sock")
    server = {"socket": path} if over == "unix" else {"trusted_proxies": ["127.0.0.1"]}
    changes = {"server": server, "limits": {"auth_failures_per_minute": 3}}
    with command(tmp_path, root, changes) as gateway:
        where = path if over == "unix" else gateway.port
        with PROXIES[name](tmp_path / name, where) as proxy:

            async def status(client: str, claim: str, key: str = AUTH) -> int:
                forwarded = f"X-Forwarded-For: {claim}"
                answer = await wire.ask(proxy.port, FILES, key, forwarded, client=client)
                return answer.status

            attempts = [
                await status("127.0.0.2", f"192.0.2.{number}", "X-API-Key: wrong")
                for number in range(5)
            ]
            assert attempts == [401, 401, 401, 429, 429]
            assert await status("127.0.0.2", "127.0.0.3") == 429
            assert await status("127.0.0.3", "127.0.0.2") == 200
            for address, expected in (("127.0.0.2", 429), ("192.0.2.0", 200)):
                forwarded = f"X-Forwarded-For: {address}"
                assert (await wire.ask(where, FILES, AUTH, forwarded)).status == expected


@pytest.mark.parametrize("name", list(PROXIES))
async def test_a_download_that_breaks_is_never_complete(
    tmp_path: Path, root: Path, name: str, clients: Clients
) -> None:
    """The file is cut off, or the gateway killed, while it is sent."""
    file = root / "s1" / "big.bin"
    size = 64 << 20
    with behind(name, tmp_path, root) as running:
        for version in ("1.1", "1.0"):
            for harm in ("truncated", "killed"):
                if harm == "killed" and version == "1.0":
                    continue  # one gateway can be killed once
                with file.open("wb") as out:
                    out.truncate(size)
                reader = await clients.slow(running.proxy.port, f"{FILES}/big.bin", version)
                await reader.reader.readuntil(b"\r\n\r\n")
                if harm == "truncated":
                    os.truncate(file, 0)
                else:
                    running.gateway.popen.kill()
                got, end = await reader.rest(30)
                assert end in ("closed", "reset")
                assert len(got) < size
        gone = await wire.ask(running.proxy.port, FILES, AUTH)

    assert gone.status == 502
    assert gone.json == {"error": "the gateway does not answer"}


@pytest.mark.parametrize("name", list(PROXIES))
async def test_a_listing_that_breaks_is_never_taken_for_a_whole_one(
    tmp_path: Path, root: Path, name: str, clients: Clients
) -> None:
    names = {f"s1/{'x' * 200}{number:06}": b"" for number in range(30_000)}
    plant(root, names)
    with behind(name, tmp_path, root) as running:
        reader = await clients.slow(running.proxy.port, f"{FILES}?recursive=true")
        await reader.reader.readuntil(b"\r\n\r\n")
        first = await reader.reader.readexactly(10_000)
        running.gateway.popen.kill()
        rest, end = await reader.rest(10)

    got = first + rest
    pieces = re.split(rb"\r\n[0-9a-f]+\r\n", b"\r\n" + got)
    assert pieces[1].startswith(b'{"session_id":"s1"')
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(b"".join(pieces[1:]).removesuffix(b"\r\n"))
    if name == "nginx":  # Debian's Caddy 2.6 ends the body as if it were whole
        assert end in ("closed", "reset")
        assert not got.endswith(b"0\r\n\r\n")


@pytest.fixture
async def nginx_before(
    tmp_path: Path, big_root: tuple[Path, str]
) -> AsyncIterator[tuple[Behind, str]]:
    root, sha256 = big_root
    with behind("nginx", tmp_path, root) as running:
        yield running, sha256


async def test_a_reload_of_nginx_loses_nothing(nginx_before: tuple[Behind, str]) -> None:
    running, sha256 = nginx_before
    statuses: set[int] = set()
    over = asyncio.Event()

    async def small() -> None:
        while not over.is_set():
            statuses.add((await wire.ask(running.proxy.port, FILES, AUTH)).status)

    async def download() -> str:
        answer = await wire.ask(running.proxy.port, f"{FILES}/big.bin", AUTH)
        return hashlib.sha256(answer.body).hexdigest()

    def reloads() -> int:
        return running.proxy.log.read_text().count("signal 1 (SIGHUP) received")

    asking = asyncio.create_task(small())
    downloads = [asyncio.create_task(download()) for _ in range(4)]
    for count in (1, 2, 3):
        await asyncio.sleep(0.1)
        running.proxy.reload()
        await eventually(lambda count=count: reloads() == count)
    sums = await asyncio.gather(*downloads)
    over.set()
    await asking

    assert set(sums) == {sha256}
    assert statuses == {200}


async def test_a_gateway_that_drains_finishes_what_nginx_is_sending(
    nginx_before: tuple[Behind, str], clients: Clients
) -> None:
    running, sha256 = nginx_before
    reader = await clients.slow(running.proxy.port, f"{FILES}/big.bin")
    await logged(running.gateway, "audit.download")
    running.gateway.signal(signal.SIGTERM)
    await logged(running.gateway, "draining")

    assert hashlib.sha256((await reader.answer()).body).hexdigest() == sha256
    assert await running.gateway.exit_code() == 0
    assert [line["outcome"] for line in log_of(running.gateway, "http_request")] == ["ok"]
