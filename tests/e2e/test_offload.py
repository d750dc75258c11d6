"""Large files that nginx sends by itself, after the gateway's checks and with its headers."""

import asyncio
import hashlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import pytest

from tests import wire
from tests.e2e.operating import FILES, Clients
from tests.e2e.proxies import Proxy, caddy, nginx
from tests.gateways import AUTH, command, plant, threaded
from tests.security.test_rename_attack import ATTACKER
from tests.wire import Answer

PREFIX = "/_workspace_files/"
BIG = os.urandom(1 << 20)
LARGE = 256 * 1024  # the largest file that is not worth it
WANTED = "X-Sendfile-Type: X-Accel-Redirect"
# fmt: off
NAMES = dict.fromkeys((
    "big.bin", "a.html", "b.txt", "no-extension", "a..b", "..a", "...", ".hidden", "-rf", "d/e/f",
    "a b+c%41?x#y.csv", "%2e%2e", "%2F", "new\nline", 'q"uote', "back\\slash", "é", "日本", "?",
    "#", "a;b,c", "\u202ergpj", "x" * 255, "f (deleted)",
), BIG)
# fmt: on


def offloading(path: str) -> dict[str, Any]:
    return {"server": {"socket": path, "offload": {"prefix": PREFIX}}}


class Setup:
    """A gateway that offloads, nginx that acts on it, and one that does not."""

    def __init__(self, direct: str, proxy: Proxy, plain: Proxy, root: Path) -> None:
        self.direct, self.proxy, self.plain, self.root = direct, proxy, plain, root

    async def both(self, target: str, *headers: str, **options: str) -> tuple[Answer, Answer]:
        """What nginx answers when it sends files by itself, and when it does not."""
        return (
            await wire.ask(self.proxy.port, target, AUTH, *headers, **options),
            await wire.ask(self.plain.port, target, AUTH, *headers, **options),
        )


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    tmp = tmp_path_factory.mktemp("offload")
    root = tmp / "workspaces"
    plant(root / "s1", NAMES)
    plant(
        root,
        {
            "s1/small": b"x" * LARGE,
            "s1/just-large": b"x" * (LARGE + 1),
            "s1/link": "d/e/f",
            "s1/up": "d/../big.bin",
            "s1/out": "../s2/secret",
            "s2/secret": BIG,
        },
    )
    path = str(tmp / "http.sock")
    with (
        command(tmp, root, offloading(path)),
        nginx(tmp / "nginx", path, root) as proxy,
        nginx(tmp / "plain", path) as plain,
    ):
        yield Setup(path, proxy, plain, root)


def same(answer: Answer) -> dict[str, list[str]]:
    """Its headers, but for what is never the same twice."""
    names = {name.lower() for name, _ in answer.headers} - {"date", "connection"}
    return {name: answer.all(name) for name in names}


def quoted(name: str) -> str:
    return "".join(f"%{byte:02X}" if byte != 0x2F else "/" for byte in os.fsencode(name))


@pytest.mark.parametrize("name", NAMES, ids=repr)
async def test_bytes_and_headers_are_the_same_whoever_sends_them(setup: Setup, name: str) -> None:
    target = f"{FILES}/{quoted(name)}"
    offloaded, plain = await setup.both(target, "X-Request-ID: r1", "Accept-Encoding: gzip")
    direct = await wire.ask(setup.direct, target, AUTH, WANTED)

    assert (
        direct.header("X-Accel-Redirect")
        == f"{PREFIX}local/s1/{quote_from_bytes(os.fsencode(name))}"
    )
    assert direct.body == b""
    assert offloaded.complete
    assert (offloaded.status, offloaded.body) == (200, BIG)
    assert same(offloaded) == same(plain)
    assert offloaded.header("ETag") == direct.header("ETag")
    assert offloaded.header("X-Accel-Redirect") is None
    assert offloaded.header("X-Workspace-Length") is None


@pytest.mark.parametrize("link", ["link", "up"])
async def test_what_a_link_leads_to_is_sent_by_its_own_path(setup: Setup, link: str) -> None:
    offloaded, plain = await setup.both(f"{FILES}/{link}", "X-Request-ID: r1")

    assert offloaded.body == BIG
    assert same(offloaded) == same(plain)


INLINE: list[tuple[str, tuple[str, ...], str]] = [
    ("big.bin", ("Range: bytes=0-9",), "GET"),
    ("big.bin", ("Range: bytes=99999999-",), "GET"),
    ("big.bin", ("Range: nonsense",), "GET"),
    ("big.bin", ("Range: bytes=0-9", 'If-Range: "other"'), "GET"),
    ("big.bin", ('If-None-Match: "other"',), "GET"),
    ("big.bin", ("If-None-Match: *",), "GET"),
    ("big.bin", ("If-Match: *",), "GET"),
    ("big.bin", ('If-Match: "other"',), "GET"),
    ("big.bin", ("If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT",), "GET"),
    ("big.bin", ("If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT",), "GET"),
    ("big.bin?digest=sha256", (), "GET"),
    ("big.bin", ("Want-Repr-Digest: sha-512=5",), "GET"),
    ("big.bin", ("Content-Type: application/json",), "GET"),
    ("big.bin", (), "HEAD"),
    ("small", (), "GET"),
    ("out", (), "GET"),
    ("none", (), "GET"),
    ("d", (), "GET"),
]


@pytest.mark.parametrize(("name", "headers", "method"), INLINE, ids=repr)
async def test_all_else_the_gateway_answers_itself(
    setup: Setup, name: str, headers: tuple[str, ...], method: str
) -> None:
    target = f"{FILES}/{name}"
    direct = await wire.ask(setup.direct, target, AUTH, WANTED, *headers, method=method)
    fixed = (*headers, "X-Request-ID: r1")
    offloaded, plain = await setup.both(target, *fixed, method=method)

    assert direct.header("X-Accel-Redirect") is None
    assert (offloaded.status, offloaded.body) == (plain.status, plain.body)
    assert same(offloaded) == same(plain)


async def test_one_byte_more_is_worth_it(setup: Setup) -> None:
    answer = await wire.ask(setup.direct, f"{FILES}/just-large", AUTH, WANTED)

    assert answer.header("X-Accel-Redirect") == f"{PREFIX}local/s1/just-large"


ASKED: list[tuple[str, tuple[str, ...]]] = [
    ("/_workspace_files/local/s2/secret", ()),
    ("/_workspace_files/local/s1/big.bin", (AUTH,)),
    ("/_workspace_files/local/", (AUTH,)),
    ("/_workspace_files/local/s1", (AUTH,)),
    ("/_workspace_files/", (AUTH,)),
    ("//_workspace_files/local/s1/big.bin", (AUTH,)),
    ("/./_workspace_files//local/s1/big.bin", (AUTH,)),
    ("/api/../_workspace_files/local/s1/big.bin", (AUTH,)),
    ("/%5fworkspace_files/local/s1/big.bin", (AUTH,)),
    ("/%5Fworkspace%5Ffiles%2Flocal%2Fs1%2Fbig.bin", (AUTH,)),
    ("/api/v1/%2e%2e/%2e%2e/_workspace_files/local/s1/big.bin", (AUTH,)),
    ("/_workspace_files/local/../local/s1/big.bin", (AUTH,)),
    ("/_workspace_files/local/s1/big.bin?x", (AUTH, WANTED)),
    ("/livez", (f"X-Accel-Redirect: {PREFIX}local/s2/secret", WANTED)),
    ("/nowhere", (f"X-Accel-Redirect: {PREFIX}local/s2/secret",)),
    (FILES, (f"X-Accel-Redirect: {PREFIX}local/s2/secret", WANTED)),
    (FILES, (AUTH, "X-Sendfile: /etc/passwd", "X-Original-URI: /_workspace_files/local/s2")),
    (f"{FILES}/big.bin", ("X-API-Key: wrong", WANTED)),
]


@pytest.mark.parametrize(("target", "headers"), ASKED, ids=repr)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_a_client_cannot_ask_for_it(
    setup: Setup, target: str, headers: tuple[str, ...], method: str
) -> None:
    answer = await wire.ask(setup.proxy.port, target, *headers, method=method)
    direct = await wire.ask(setup.direct, target, *headers, method=method)

    assert answer.status == direct.status
    assert len(answer.body) < 5000
    assert BIG[:16] not in answer.body
    assert answer.header("ETag") is None


async def test_only_a_proxy_that_says_so_is_told(setup: Setup, tmp_path: Path) -> None:
    """Anybody else would take the empty body for the file: also nginx without the location."""
    for headers in ((), ("X-Sendfile-Type: X-Sendfile",), (WANTED, WANTED)):
        direct = await wire.ask(setup.direct, f"{FILES}/big.bin", AUTH, *headers)
        assert (direct.header("X-Accel-Redirect"), direct.body) == (None, BIG)
    plain = await wire.ask(setup.plain.port, f"{FILES}/big.bin", AUTH, WANTED)
    assert plain.body == BIG
    with caddy(tmp_path / "caddy", setup.direct) as other:
        for headers in ((), (WANTED,)):
            assert (await wire.ask(other.port, f"{FILES}/big.bin", AUTH, *headers)).body == BIG


@pytest.mark.parametrize(
    ("server", "told"),
    [
        ({}, False),
        ({"trusted_proxies": ["127.0.0.1"]}, False),
        ({"trusted_proxies": ["127.0.0.1"], "offload": {"prefix": PREFIX}}, True),
        ({"trusted_proxies": ["192.0.2.1"], "offload": {"prefix": PREFIX}}, False),
    ],
)
def test_it_is_off_unless_configured_and_for_trusted_peers_only(
    root: Path, server: dict[str, Any], told: bool
) -> None:
    plant(root, {"s1/big.bin": BIG})
    with threaded(root, {"server": server}) as gateway:
        answer = asyncio.run(wire.ask(gateway.port, f"{FILES}/big.bin", AUTH, WANTED))

    assert (answer.header("X-Accel-Redirect") is not None) is told
    assert answer.body == (b"" if told else BIG)


@contextmanager
def pair(tmp: Path, root: Path, nginx_root: Path | None = None) -> Iterator[Proxy]:
    """nginx that sends files by itself, before a gateway of its own."""
    path = str(tmp / "http.sock")
    with (
        command(tmp, root, offloading(path)),
        nginx(tmp / "nginx", path, nginx_root or root) as proxy,
    ):
        yield proxy


OUTSIDE = b"OUTSIDE!" * (LARGE // 4)
INSIDE = b"inside.." * (LARGE // 4)
CHANGED = (502, b'{"error":"the file changed while it was read"}')
REFUSED = (400, b'{"error":"invalid path: symbolic link leaves the workspace"}')
MISSING = (404, b'{"error":"file not found"}')


@pytest.mark.parametrize("swap", [("d", "l"), ("x", "file-link"), ("d/e", "l"), ("d", "other")])
async def test_no_rename_gives_a_byte_from_outside(
    tmp_path: Path, root: Path, swap: tuple[str, str]
) -> None:
    """A process swaps directories and files for links that leave, while nginx sends them."""
    session = root / "s1"
    plant(root, {f"s1/{name}": INSIDE for name in ("d/f", "d/e/f", "x")})
    plant(root, {"s2/f": OUTSIDE, "s2/e/f": OUTSIDE})
    plant(tmp_path / "outside", {"f": OUTSIDE, "e/f": OUTSIDE})
    plant(
        session,
        {"l": "../../outside", "other": "../s2", "file-link": "../../outside/f"},
    )
    seen: Counter[Any] = Counter()
    with pair(tmp_path, root) as proxy:
        arguments = [sys.executable, "-c", ATTACKER, str(session), *swap]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as attacker:
            try:
                assert attacker.stdout is not None
                assert attacker.stdout.readline() == b"swapping\n"
                for number in range(2000):
                    name = ("d/f", "x", "d/e/f", "l/f")[number % 4]
                    answer = await wire.ask(proxy.port, f"{FILES}/{name}", AUTH)
                    seen[answer.status, answer.body] += 1
                assert attacker.poll() is None
            finally:
                attacker.kill()

    assert set(seen) <= {(200, INSIDE), CHANGED, REFUSED, MISSING}
    assert seen[200, INSIDE]
    assert seen[CHANGED]
    assert seen[REFUSED]


Change = Callable[[Path, Path], object]


def _replaced(file: Path, outside: Path) -> None:
    file.unlink()
    file.symlink_to(outside)


def _parent_replaced(file: Path, outside: Path) -> None:
    file.parent.rename(file.parent.with_name("away"))
    file.parent.symlink_to(outside.parent)


def _a_directory(file: Path, _: Path) -> None:
    file.unlink()
    file.mkdir()


def _a_fifo(file: Path, _: Path) -> None:
    file.unlink()
    os.mkfifo(file)


CHANGES: dict[str, Change] = {
    "removed": lambda file, _: file.unlink(),
    "replaced by a link that leaves": _replaced,
    "its directory replaced by a link that leaves": _parent_replaced,
    "a directory": _a_directory,
    "a FIFO": _a_fifo,
}


@pytest.mark.parametrize("change", CHANGES)
async def test_what_changed_between_check_and_open_is_an_error(
    tmp_path: Path, root: Path, change: str
) -> None:
    """nginx serves another tree than the gateway here, in which the change has happened."""
    later = tmp_path / "later"
    plant(root, {"s1/d/f": BIG})
    plant(later, {"s1/d/f": BIG, "../outside/f": OUTSIDE})
    CHANGES[change](later / "s1/d/f", tmp_path / "outside/f")
    with pair(tmp_path, root, later) as proxy:
        answer = await wire.ask(proxy.port, f"{FILES}/d/f", AUTH)

    assert (answer.status, answer.body) == CHANGED
    assert answer.header("Content-Type") == "application/json"
    assert answer.header("X-Content-Type-Options") == "nosniff"
    assert answer.header("ETag") is None


@pytest.mark.parametrize("change", ["longer", "another time"])
async def test_another_file_of_the_same_name_gets_no_etag(
    tmp_path: Path, root: Path, change: str
) -> None:
    """A client that resumes with it would put two files together."""
    later = tmp_path / "later"
    plant(root, {"s1/f": BIG})
    plant(later, {"s1/f": BIG + b"more" if change == "longer" else BIG})
    at = os.stat(root / "s1/f").st_mtime
    os.utime(later / "s1/f", (at, at if change == "longer" else at - 10))
    with pair(tmp_path, root, later) as proxy:
        answer = await wire.ask(proxy.port, f"{FILES}/f", AUTH)

    assert answer.status == 200
    assert answer.complete
    assert answer.header("ETag") is None


async def test_a_file_cut_off_while_nginx_sends_it_is_never_complete(
    tmp_path: Path, root: Path, clients: Clients
) -> None:
    file = root / "s1" / "big.bin"
    for version in ("1.1", "1.0"):
        with file.open("wb") as out:
            out.truncate(64 << 20)
        tmp = tmp_path / version
        tmp.mkdir()
        with pair(tmp, root) as proxy:
            reader = await clients.slow(proxy.port, f"{FILES}/big.bin", version)
            await reader.reader.readuntil(b"\r\n\r\n")
            os.truncate(file, 0)
            got, end = await reader.rest(30)
        assert end in ("closed", "reset")
        assert len(got) < 64 << 20


async def test_a_reload_of_nginx_loses_nothing(
    tmp_path: Path, big_root: tuple[Path, str], clients: Clients
) -> None:
    root, sha256 = big_root
    with pair(tmp_path, root) as proxy:
        slow = await clients.slow(proxy.port, f"{FILES}/big.bin")
        await slow.reader.readuntil(b"\r\n\r\n")
        proxy.reload()
        await asyncio.sleep(0.3)
        after = await wire.ask(proxy.port, f"{FILES}/big.bin", AUTH)
        before = await slow.reader.readexactly(50 << 20)

    assert hashlib.sha256(after.body).hexdigest() == sha256
    assert hashlib.sha256(before).hexdigest() == sha256
