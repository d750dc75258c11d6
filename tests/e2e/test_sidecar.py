"""Gateway, sidecar, files: what a client gets through both is what it would get at the files."""

import asyncio
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.e2e.sidecars import TOKEN, Sidecar, sidecar
from tests.gateways import AUTH, Gateway, plant, running
from tests.wire import Wire, ask, head

NUMBERS = b"".join(b"%06d\n" % number for number in range(100_000))
NAMES = [
    *(
        b"plain.txt",
        b"a b",
        b"%41",
        b"%2e%2e",
        b"a+b",
        b"?x=y&z",
        b"#",
        b"a;b",
        b"'\"",
        b"\\",
        b"~",
    ),
    *(b"\xff", b"caf\xe9", "é".encode(), "e\u0301".encode(), "😀".encode(), "\uef80".encode()),
    *(b"new\nline", b"\x01\x7f", b"..config", b"a..b", b"n" * 255, b"-rf", b"}, {"),
]


@pytest.fixture(scope="module")
def workspaces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant(
        tmp_path_factory.mktemp("there") / "workspaces",
        {"s1/out/numbers.txt": NUMBERS, "s1/out/empty": b"", "s1/away": "/etc/passwd"},
    )


@pytest.fixture(scope="module")
def there(workspaces: Path) -> Iterator[Sidecar]:
    with sidecar(workspaces.parent, workspaces) as process:
        yield process


@pytest.fixture
async def gateway(there: Sidecar, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(tmp_path, there.executor()) as running_gateway:
        yield running_gateway


async def at_the_source(there: Sidecar, path: str, *headers: str, **options: str):
    target = f"/api/v1/sessions/s1/files/{path}"
    return await ask(str(there.path), target, f"Authorization: Bearer {TOKEN}", *headers, **options)


async def test_a_file_is_the_same_through_both(gateway: Gateway, there: Sidecar) -> None:
    answer = await gateway.file("out/numbers.txt")
    source = await at_the_source(there, "out/numbers.txt")

    assert (answer.status, answer.body) == (200, NUMBERS)
    for name in ("ETag", "Last-Modified", "Content-Length", "Content-Type", "Accept-Ranges"):
        assert answer.header(name) == source.header(name)
    assert answer.header("X-Workspace-Source") == "edge"
    assert answer.header("X-Workspace-Verdict") is None


async def test_a_head_is_that_of_the_file(gateway: Gateway) -> None:
    whole = await gateway.file("out/numbers.txt")
    answer = await gateway.file("out/numbers.txt", method="HEAD")

    different = ("Date", "X-Request-ID")
    assert [h for h in answer.headers if h[0] not in different] == [
        h for h in whole.headers if h[0] not in different
    ]


async def test_a_download_is_resumed_by_the_tag_of_the_source(
    gateway: Gateway, there: Sidecar
) -> None:
    etag = (await at_the_source(there, "out/numbers.txt")).header("ETag")

    answer = await gateway.file("out/numbers.txt", "Range: bytes=500000-", f"If-Range: {etag}")

    assert (answer.status, answer.body) == (206, NUMBERS[500_000:])
    assert answer.header("Content-Range") == f"bytes 500000-{len(NUMBERS) - 1}/{len(NUMBERS)}"


async def test_a_resume_of_what_has_changed_begins_anew(gateway, workspaces: Path) -> None:
    plant(workspaces, {"s1/changing": b"first version"})
    etag = (await gateway.file("changing")).header("ETag")
    (workspaces / "s1/changing").write_bytes(b"the second version")

    answer = await gateway.file("changing", "Range: bytes=5-", f"If-Range: {etag}")

    assert (answer.status, answer.body) == (200, b"the second version")
    assert answer.header("ETag") != etag


async def test_what_a_client_has_already_does_not_travel(gateway, there: Sidecar) -> None:
    """Not even from the sidecar to the gateway."""
    etag = (await gateway.file("out/numbers.txt")).header("ETag")

    answer = await gateway.file("out/numbers.txt", f"If-None-Match: {etag}", "X-Request-ID: held")

    assert (answer.status, answer.body, answer.header("ETag")) == (304, b"", etag)
    line = there.request("held")
    assert (line["status"], line["bytes_sent"]) == (304, 0)


async def test_a_part_is_a_part_at_the_source(gateway, there: Sidecar) -> None:
    answer = await gateway.file("out/numbers.txt", "Range: bytes=0-99", "X-Request-ID: part")

    assert (answer.status, answer.body) == (206, NUMBERS[:100])
    assert there.request("part")["bytes_sent"] < 300_000


async def test_several_parts_come_in_one_answer(gateway: Gateway) -> None:
    answer = await gateway.file("out/numbers.txt", "Range: bytes=0-6,699993-,7-13")

    assert answer.status == 206
    content_type = answer.header("Content-Type")
    assert content_type is not None
    boundary = re.fullmatch(r"multipart/byteranges; boundary=(\S+)", content_type)
    assert boundary is not None
    parts = answer.body.split(b"--" + boundary[1].encode())[1:-1]
    assert [part.partition(b"\r\n\r\n")[2] for part in parts] == [
        b"000000\n\r\n",
        b"099999\n\r\n",
        b"000001\n\r\n",
    ]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("out/numbers.txt", ["Range: bytes=700000-"], 416),
        ("out/empty", ["Range: bytes=0-"], 416),
        ("out/empty", [], 200),
        ("out/numbers.txt", ['If-Match: "another"'], 412),
        ("out/none", [], 404),
        ("out", [], 400),
        ("out/numbers.txt/x", [], 400),
        ("away", [], 400),
        ("..", [], 400),
        ("%2Fetc/passwd", [], 400),
    ],
)
async def test_a_refusal_is_the_same_through_both(
    gateway: Gateway, there: Sidecar, path: str, headers: list[str], status: int
) -> None:
    answer = await gateway.file(path, *headers)
    source = await at_the_source(there, path, *headers)

    assert answer.status == source.status == status
    assert answer.body == source.body
    assert answer.header("X-Workspace-Verdict") == source.header("X-Workspace-Verdict")


async def test_a_missing_session_is_missing(gateway: Gateway) -> None:
    answer = await gateway.file("x", session="nobody")

    assert (answer.status, answer.json) == (404, {"error": "session not found"})


async def test_every_listed_path_fetches_its_file(gateway, workspaces: Path) -> None:
    plant(workspaces, {b"names/d/" + name: b"content of " + name for name in NAMES})

    listing = (await gateway.files("recursive=true", session="names")).json
    below = [entry for entry in listing["files"] if entry["path"].startswith("/d/")]

    assert len(below) == len(NAMES)
    contents = set()
    for entry in below:
        path = "/".join(quote(part, safe="") for part in entry["path"][1:].split("/"))
        answer = await gateway.file(path, session="names")
        assert answer.status == 200, entry["path"]
        contents.add(answer.body)
    assert contents == {b"content of " + name for name in NAMES}


async def test_listings_are_the_same_through_both(gateway, there: Sidecar) -> None:
    for query in ("", "path=out", "recursive=true", "depth=1", "glob=*.txt&recursive=1", "limit=1"):
        target = f"/api/v1/sessions/s1/files?{query}"
        source = await ask(str(there.path), target, f"X-API-Key: {TOKEN}")

        assert (await gateway.files(query)).json == source.json


async def test_request_id_and_trace_arrive_at_the_sidecar(gateway, there: Sidecar) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    await gateway.file("out/empty", "X-Request-ID: traced.1", f"traceparent: {trace}")

    line = there.request("traced.1")
    assert line["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert line["key_id"] == "gateway"


async def test_a_wrong_token_is_the_gateways_problem(there: Sidecar, tmp_path: Path) -> None:
    """The client's key is good, so it is not told 401."""
    wrong = tmp_path / "wrong"
    wrong.write_text("wsg_test_wrong_0123456789abcdef")
    config = there.executor(token={"file": str(wrong)})

    async with running(tmp_path, config) as gateway:
        answer = await gateway.file("out/empty", "X-Request-ID: wrong")
        listing = await gateway.files()

    assert (answer.status, listing.status) == (502, 502)
    assert answer.header("X-Workspace-Verdict") == "auth_rejected"
    assert there.request("wrong")["status"] == 401


async def test_a_sidecar_that_dies_breaks_the_download(tmp_path: Path) -> None:
    """Visibly, and later requests are 502 at once."""
    root = plant(tmp_path / "workspaces", {"s1/small": b""})
    os.truncate(root / "s1/small", 80 << 20)
    with sidecar(tmp_path, root) as there:
        async with running(tmp_path, there.executor()) as gateway:
            async with await Wire.connect(gateway.port, limit=1 << 16) as client:
                await client.send(head("/api/v1/sessions/s1/files/small", AUTH))
                await client.reader.readuntil(b"\r\n\r\n")
                await client.reader.readexactly(1 << 20)
                there.kill()
                rest, end = await client.rest(20)
            after = await gateway.file("small")

    assert len(rest) < 79 << 20
    assert end == "reset"
    assert after.status == 502


async def test_a_sidecar_speaks_only_to_who_has_the_token(there: Sidecar) -> None:
    assert (await ask(str(there.path), "/api/v1/sessions/s1/files")).status == 401
    assert (await ask(str(there.path), "/livez")).status == 200
    assert (await ask(str(there.path), "/readyz")).status == 200
    assert stat.S_IMODE(there.path.stat().st_mode) == 0o660


async def test_its_limits_are_its_own(gateway, workspaces: Path, tmp_path, there) -> None:
    plant(workspaces, {"s1/large": b""})
    os.truncate(workspaces / "s1/large", (100 << 20) + 1)

    async with running(tmp_path, {**there.executor(), "limits": {"file": "1GiB"}}) as generous:
        answer = await generous.file("large")
    usual = await gateway.file("large")
    (workspaces / "s1/large").unlink()

    for refused_file in (answer, usual):
        assert refused_file.status == 413
        assert refused_file.body == b'{"error":"file exceeds maximum size limit (100MB)"}'
        assert refused_file.header("X-Workspace-Limit") == str(100 << 20)
        assert refused_file.header("X-Workspace-Source") == "edge"


async def test_a_new_token_is_read_on_sighup(tmp_path: Path) -> None:
    root = plant(tmp_path / "workspaces", {"s1/f": b"x"})
    target, new = "/api/v1/sessions/s1/files/f", "wsg_test_new_0123456789abcdef00"
    with sidecar(tmp_path, root) as there:
        there.token.write_text(new)
        there.popen.send_signal(signal.SIGHUP)
        while not there.logged("reloaded"):
            assert there.popen.poll() is None
        answers = [await ask(str(there.path), target, f"X-API-Key: {key}") for key in (new, TOKEN)]
        there.token.chmod(0o644)
        there.popen.send_signal(signal.SIGHUP)
        while not there.logged("reload_failed"):
            assert there.popen.poll() is None
        answers.append(await ask(str(there.path), target, f"X-API-Key: {new}"))

    assert [answer.status for answer in answers] == [200, 401, 200]
    assert not there.path.exists()


@pytest.mark.parametrize("listen", [None, "tcp:127.0.0.1:0"])
async def test_wrong_tokens_lock_nobody_out_who_has_the_right_one(tmp_path, listen) -> None:
    """A proxy in front of it, or a sandbox in the same pod, may have the gateway's address."""
    root = plant(tmp_path / "workspaces", {"s1/f": b"x"})
    target = "/api/v1/sessions/s1/files/f"
    with sidecar(tmp_path, root, listen=listen) as there:
        where = there.logged("serving")[0].get("port", str(there.path))
        wrong = [await ask(where, target, "X-API-Key: wrong") for _ in range(40)]
        right = await ask(where, target, f"X-API-Key: {TOKEN}")

    assert {answer.status for answer in wrong} == {401}
    assert right.status == 200


def test_it_listens_on_vsock(tmp_path: Path) -> None:
    if not hasattr(socket, "AF_VSOCK") or not Path("/dev/vsock").exists():
        pytest.skip("needs a kernel with vsock")
    root = plant(tmp_path / "workspaces", {"s1/f": b"x"})
    with sidecar(tmp_path, root, listen="vsock:52052") as there:
        assert there.logged("serving")[0]["vsock"] == 52052
        with socket.socket(socket.AF_VSOCK) as taken, pytest.raises(OSError, match="in use"):
            taken.bind((socket.VMADDR_CID_ANY, 52052))
        with socket.socket(socket.AF_VSOCK) as client:
            client.settimeout(3)
            try:
                client.connect((1, 52052))  # VMADDR_CID_LOCAL
            except OSError:
                pytest.skip("needs the kernel module vsock_loopback")
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200 ")


def test_the_loop_that_knows_vsock_serves_as_well(workspaces: Path) -> None:
    """uvloop does not know it; there the sidecar runs on asyncio's own loop."""

    async def asked() -> list[bytes]:
        async with running(workspaces) as gateway:
            small = await gateway.file("out/empty")
            return [small.body, (await gateway.file("out/numbers.txt")).body]

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        assert runner.run(asked()) == [b"", NUMBERS]


def refused(*arguments: str) -> str:
    command = [sys.executable, "-m", "gateway", "sidecar", "--root", "/tmp", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    return result.stderr


@pytest.mark.parametrize(
    ("mode", "text", "said"),
    [
        (0o604, TOKEN, "everybody on this host may use it (mode 0604); chmod 600 it"),
        (0o602, TOKEN, "everybody on this host may use it (mode 0602); chmod 600 it"),
        (0o600, "", "it holds no secret"),
        (0o600, "short", "must hold at least 16 characters"),
        (0o600, TOKEN + "\n" + TOKEN, "it must hold one line of printable ASCII without blanks"),
        (0o600, None, "cannot be read: No such file or directory"),
    ],
)
def test_a_token_file_that_cannot_be_used_is_refused(tmp_path, mode, text, said) -> None:
    file = tmp_path / "token"
    if text is not None:
        file.write_text(text)
        file.chmod(mode)

    assert refused("--token-file", str(file)) == f"{file}: {said}\n"


@pytest.mark.parametrize(
    "listen",
    ["", "8081", "tcp:8081", "tcp:h:99999", "unix:", "vsock:", "vsock:0", "vsock:x", "x:1"],
)
def test_an_address_that_is_none_is_refused(tmp_path, listen: str) -> None:
    assert "is no address such as" in refused("--token-file", "x", "--listen", listen)
