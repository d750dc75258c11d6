"""Downloads on the wire: headers, conditions, ranges, framing, and what breaks while they run."""

import asyncio
import base64
import hashlib
import os
import random
import re
import socket
import time
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path

import pytest

from tests.conftest import ResolverName
from tests.e2e.operating import eventually
from tests.gateways import (
    AUTH,
    Gateway,
    command,
    connections,
    held,
    plant,
    resolved_by,
    running,
    slowest_liveness,
)
from tests.plugins import registered
from tests.wire import Answer, Wire, ask, head

SMALL = bytes(random.Random(1).randbytes(1000))
LARGE = bytes(random.Random(2).randbytes(3_000_000))  # beyond what is sent in one go
FILES = "/api/v1/sessions/s1/files/"


@pytest.fixture
def files(root: Path) -> Path:
    """A small and a large file, and an empty one, all an hour old."""
    plant(root, {"s1/small": SMALL, "s1/large": LARGE, "s1/empty": b"", "s1/d/x": b"x"})
    old = time.time() - 3600
    for name in ("small", "large", "empty"):
        os.utime(root / "s1" / name, (old, old))
    return root / "s1"


def content(name: str) -> bytes:
    return {"small": SMALL, "large": LARGE, "empty": b""}[name]


@pytest.mark.parametrize("name", ["small", "large", "empty"])
async def test_a_file_comes_with_the_headers_that_are_promised(
    gateway: Gateway, files: Path, name: str
) -> None:
    answer = await gateway.file(name)

    assert (answer.status, answer.body, answer.complete) == (200, content(name), True)
    assert answer.header("Content-Length") == str(len(content(name)))
    assert answer.header("Transfer-Encoding") is None
    assert re.fullmatch(r'"[!-~]+"', answer.header("ETag") or "")
    modified = int((files / name).stat().st_mtime)
    assert answer.header("Last-Modified") == formatdate(modified, usegmt=True)
    assert answer.header("Accept-Ranges") == "bytes"
    assert answer.header("Cache-Control") == "private, no-cache"
    assert answer.header("X-Content-Type-Options") == "nosniff"
    assert answer.header("Content-Security-Policy") == "sandbox; default-src 'none'"
    assert answer.header("Content-Disposition") == f'attachment; filename="{name}"'
    assert answer.header("X-Workspace-Source") == "local"
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", answer.header("X-Request-ID") or "")
    assert answer.header("Repr-Digest") is None
    assert "aiohttp" not in str(answer.headers).lower()


@pytest.mark.parametrize("name", ["small", "large", "empty"])
async def test_head_says_the_same_without_a_body(gateway: Gateway, files: Path, name: str) -> None:
    """A body byte after HEAD would be taken for the next answer on a shared proxy connection."""
    got = await gateway.file(name)

    async with await Wire.connect(gateway.port) as wire:
        asked = await wire.ask(FILES + name, AUTH, method="HEAD")
        following = await wire.ask(FILES + "small", AUTH)

    assert asked.status == 200
    assert _stable(asked) == _stable(got)
    assert (following.status, following.body) == (200, SMALL)


def _stable(answer: Answer) -> dict[str, str]:
    return {k: v for k, v in answer.headers if k not in ("Date", "X-Request-ID")}


@pytest.mark.parametrize(
    ("target", "headers", "method", "status"),
    [
        (FILES + "large", ("If-None-Match: *",), "GET", 304),
        (FILES + "large", ("If-None-Match: *",), "HEAD", 304),
        (FILES + "large", ('If-Match: "other"',), "HEAD", 412),
        (FILES + "missing", (), "HEAD", 404),
        (FILES + "d", (), "HEAD", 400),
        (FILES + "large", ("Range: bytes=0-9",), "HEAD", 200),
        (FILES + "large", ("Content-Type: application/json",), "HEAD", 200),
        (FILES + "large?digest=sha256", (), "HEAD", 200),
        (FILES + "large?digest=md5", (), "HEAD", 400),
        (FILES.rstrip("/"), (), "HEAD", 200),
        (FILES.rstrip("/") + "?recursive=1", ("Content-Type: application/json",), "HEAD", 200),
        ("/nowhere", (), "HEAD", 404),
        ("/livez", (), "HEAD", 200),
        ("/readyz", (), "HEAD", 200),
        (FILES + "large", (), "POST", 405),
        (FILES + "large", ("Content-Length: 3", "Range: bytes=5-"), "HEAD", 200),
    ],
)
async def test_an_answer_without_a_body_leaves_the_connection_clean(
    gateway: Gateway, files: Path, target: str, headers: tuple[str, ...], method: str, status: int
) -> None:
    """Both requests are on the wire before the first answer: what follows it is the second's."""
    second = head(FILES + "small", AUTH)
    body = b"abc" if "Content-Length: 3" in headers else b""
    async with await Wire.connect(gateway.port) as wire:
        await wire.send(head(target, AUTH, *headers, method=method) + body + second)
        first_answer = await wire.answer(method)
        second_answer = await wire.answer()

    assert first_answer.status == status
    assert (second_answer.status, second_answer.body) == (200, SMALL)


async def test_a_listing_of_many_entries_has_a_clean_head(gateway: Gateway, root: Path) -> None:
    """The listing that is streamed, too."""
    plant(root, {f"s1/{number:05}": b"" for number in range(3000)} | {"s1/small": SMALL})

    async with await Wire.connect(gateway.port) as wire:
        listing = FILES.rstrip("/")
        await wire.send(head(listing, AUTH, method="HEAD") + head(FILES + "small", AUTH))
        first, second = await wire.answer("HEAD"), await wire.answer()

    assert first.status == 200
    assert (second.status, second.body) == (200, SMALL)


async def test_the_tag_is_stable_until_the_file_changes(gateway: Gateway, files: Path) -> None:
    seen = {(await gateway.file("small")).header("ETag") for _ in range(3)}
    first = (files / "small").stat()
    (files / "small").write_bytes(SMALL[::-1])
    os.utime(files / "small", ns=(first.st_atime_ns, first.st_mtime_ns))
    changed = (await gateway.file("small")).header("ETag")
    (files / "other").write_bytes(SMALL[::-1])
    os.replace(files / "other", files / "small")
    replaced = (await gateway.file("small")).header("ETag")

    assert len(seen) == 1
    assert len({*seen, changed, replaced}) == 3


@pytest.mark.parametrize("name", ["small", "large", "empty"])
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ("If-None-Match: {tag}", 304),
        ("If-None-Match: W/{tag}", 304),
        ('If-None-Match: "a", {tag}, "b"', 304),
        ("If-None-Match: *", 304),
        ('If-None-Match: "other"', 200),
        ("If-None-Match: other", 200),
        ('If-None-Match: "other"\r\nIf-Modified-Since: {now}', 200),
        ("If-None-Match: {tag}\r\nIf-Modified-Since: {long_ago}", 304),
        ("If-Modified-Since: {modified}", 304),
        ("If-Modified-Since: {now}", 304),
        ("If-Modified-Since: {long_ago}", 200),
        ("If-Modified-Since: yesterday", 200),
        ("If-Match: {tag}", 200),
        ("If-Match: *", 200),
        ("If-Match: W/{tag}", 412),
        ('If-Match: "other"', 412),
        ('If-Match: "other", {tag}', 200),
        ('If-Match: "a"\r\nIf-Match: {tag}', 200),
        ("If-Match: {tag}\r\nIf-Unmodified-Since: {long_ago}", 200),
        ("If-Match: {tag}\r\nIf-None-Match: {tag}", 304),
        ("If-Unmodified-Since: {modified}", 200),
        ("If-Unmodified-Since: {long_ago}", 412),
        ("If-Unmodified-Since: never", 200),
    ],
)
async def test_conditions(
    gateway: Gateway, files: Path, name: str, fields: str, status: int
) -> None:
    whole = await gateway.file(name)
    lines = fields.format(
        tag=whole.header("ETag"),
        modified=whole.header("Last-Modified"),
        now=formatdate(usegmt=True),
        long_ago=formatdate(1_000_000_000, usegmt=True),
    )

    answer = await gateway.file(name, *lines.split("\r\n"))

    assert answer.status == status
    if status == 304:
        # RFC 9110 section 15.4.5: what a 200 would have said; and no length but that one's.
        for field in ("ETag", "Last-Modified", "Cache-Control"):
            assert answer.header(field) == whole.header(field)
        assert answer.header("Content-Length") in (None, whole.header("Content-Length"))
        assert answer.header("Content-Type") in (None, whole.header("Content-Type"))
    if status == 412:
        assert answer.json == {"error": "precondition failed"}
    if status == 200:
        assert answer.body == content(name)


@pytest.mark.parametrize("name", ["small", "large"])
@pytest.mark.parametrize(
    ("spec", "first", "last"),
    [
        ("0-0", 0, 0),
        ("0-99", 0, 99),
        ("900-", 900, None),
        ("-1", -1, None),
        ("-100", -100, None),
        ("-99999999999999999999", 0, None),
        ("10-99999999999999999999", 10, None),
        ("0-", 0, None),
    ],
)
async def test_one_range(
    gateway: Gateway, files: Path, name: str, spec: str, first: int, last: int | None
) -> None:
    data = content(name)
    begin = first if first >= 0 else len(data) + first
    end = len(data) - 1 if last is None else last

    answer = await gateway.file(name, f"Range: bytes={spec}")

    assert (answer.status, answer.complete) == (206, True)
    assert answer.header("Content-Range") == f"bytes {begin}-{end}/{len(data)}"
    assert answer.body == data[begin : end + 1]
    assert answer.header("Content-Type") == "application/octet-stream"


async def test_ranges_across_what_is_read_ahead(gateway: Gateway, files: Path) -> None:
    """The first 4 KiB tell the type of a large file, and are sent without another read."""
    for first, last in ((0, 4095), (0, 4096), (4095, 4096), (4096, 8191), (1 << 20, (2 << 20) - 1)):
        answer = await gateway.file("large", f"Range: bytes={first}-{last}")
        assert answer.body == LARGE[first : last + 1]


@pytest.mark.parametrize(
    "line",
    [
        "Range: bytes",
        "Range: bytes=",
        "Range: bytes=-",
        "Range: bytes=a-b",
        "Range: bytes=5-2",
        "Range: bytes=0-1,5-2",
        "Range: bytes= 0 - 1",
        "Range: bytes=0x1-2",
        "Range: bytes=+1-2",
        "Range: bytes=\u0661-2",
        "Range: items=0-1",
        "Range: 0-1",
        "Range: bytes=0-0," + ",".join("0-" for _ in range(9)),
        "Range: bytes=" + ",".join(f"{n}-{n}" for n in range(60)),
    ],
    ids=ascii,
)
async def test_a_malformed_or_abusive_range_is_ignored(
    gateway: Gateway, files: Path, line: str
) -> None:
    answer = await gateway.file("small", line)

    assert (answer.status, answer.body) == (200, SMALL)


@pytest.mark.parametrize(
    "spec", ["1000-", "1000-1001", "99999999999999999999-", "-0", "5000-,6000-"]
)
async def test_an_unsatisfiable_range(gateway: Gateway, files: Path, spec: str) -> None:
    answer = await gateway.file("small", f"Range: bytes={spec}")

    assert (answer.status, answer.json) == (416, {"error": "range not satisfiable"})
    assert answer.header("Content-Range") == "bytes */1000"


async def test_ranges_of_an_empty_file(gateway: Gateway, files: Path) -> None:
    assert (await gateway.file("empty", "Range: bytes=0-")).status == 416
    suffix = await gateway.file("empty", "Range: bytes=-5")
    assert (suffix.status, suffix.body) == (200, b"")


@pytest.mark.parametrize("name", ["small", "large"])
@pytest.mark.parametrize(
    "pairs", [[(0, 0), (999, 999)], [(500, 599), (0, 9), (100, 199)], [(0, 99), (50, 150)]]
)
async def test_several_ranges(
    gateway: Gateway, files: Path, name: str, pairs: list[tuple[int, int]]
) -> None:
    """Read as RFC 2046 says, and not one byte more than `Content-Length` promises."""
    wanted = ", ".join(f"{a}-{b}" for a, b in pairs)
    async with await Wire.connect(gateway.port) as wire:
        answer = await wire.ask(FILES + name, AUTH, f"Range: bytes={wanted}")
        following = await wire.ask(FILES + "small", AUTH)

    assert (answer.status, answer.complete) == (206, True)
    assert answer.header("Content-Range") is None
    kind, _, boundary = (answer.header("Content-Type") or "").partition("; boundary=")
    assert kind == "multipart/byteranges"
    preamble, *parts, tail = answer.body.split(b"--" + boundary.encode())
    assert (preamble, tail) == (b"", b"--\r\n")
    for part, (first, last) in zip(parts, pairs, strict=True):
        part_head, _, data = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        assert f"Content-Range: bytes {first}-{last}/{len(content(name))}".encode() in part_head
        assert data == content(name)[first : last + 1] + b"\r\n"
    assert following.body == SMALL


@pytest.mark.parametrize("name", ["small", "large"])
@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("{tag}", 206),
        ("W/{tag}", 200),
        ('"other"', 200),
        ("{modified}", 206),
        ("{long_ago}", 200),
        ("{now}", 200),
        ("rubbish", 200),
        ("", 200),
    ],
)
async def test_if_range(gateway: Gateway, files: Path, name: str, value: str, status: int) -> None:
    """A resumed download never joins two versions."""
    whole = await gateway.file(name, method="HEAD")
    line = "If-Range: " + value.format(
        tag=whole.header("ETag"),
        modified=whole.header("Last-Modified"),
        now=formatdate(usegmt=True),
        long_ago=formatdate(1_000_000_000, usegmt=True),
    )

    answer = await gateway.file(name, "Range: bytes=5-9", line)
    beyond = await gateway.file(name, "Range: bytes=99999999-", line)

    assert answer.status == status
    assert answer.body == (content(name)[5:10] if status == 206 else content(name))
    assert beyond.status == (416 if status == 206 else 200)


async def test_a_date_that_the_file_may_outlive_is_no_validator(
    gateway: Gateway, files: Path
) -> None:
    """A file of this very second may change once more and keep its date."""
    os.utime(files / "small")
    modified = (await gateway.file("small", method="HEAD")).header("Last-Modified")

    answer = await gateway.file("small", "Range: bytes=0-0", f"If-Range: {modified}")

    assert (
        answer.status == 200 or parsedate_to_datetime(modified or "").timestamp() < time.time() - 1
    )


@pytest.mark.parametrize("name", ["small", "large", "empty"])
async def test_digests(gateway: Gateway, files: Path, name: str) -> None:
    data = content(name)
    sha256 = f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"
    sha512 = f"sha-512=:{base64.b64encode(hashlib.sha512(data).digest()).decode()}:"
    cases = [
        ("?digest=sha256", (), sha256),
        ("", ("Want-Repr-Digest: sha-256=1",), sha256),
        ("", ("Want-Repr-Digest: sha-256=3, sha-512=10",), sha512),
        ("", ("Want-Repr-Digest: sha-512=0, md5=10, sha-256=1",), sha256),
        ("", ("Want-Repr-Digest: sha-256=0",), None),
        ("", ("Want-Repr-Digest: sha-256=99",), None),
        ("", ("Want-Repr-Digest: ;;;=",), None),
        ("?digest=sha256", ("Range: bytes=-1",), sha256),
    ]

    for query, lines, expected in cases:
        for method in ("GET", "HEAD"):
            answer = await gateway.file(name + query, *lines, method=method)
            assert answer.header("Repr-Digest") == expected, (query, lines, method)

    assert (await gateway.file(name + "?digest=md5")).status == 400
    assert (await gateway.file(name + "?digest=")).status == 400


@pytest.mark.parametrize("raw", ["d", "d/", "small/", "small//", "small/.", "d/.", "./"])
async def test_a_directory_is_not_a_file(gateway: Gateway, files: Path, raw: str) -> None:
    answer = await gateway.file(raw)

    assert answer.status == 400
    assert list(answer.json) == ["error"]


@pytest.mark.parametrize("raw", ["small/x", "small/x/y"])
async def test_below_a_file_there_is_nothing(gateway: Gateway, files: Path, raw: str) -> None:
    answer = await gateway.file(raw)

    assert (answer.status, answer.json) == (400, {"error": "not a directory"})


async def test_a_missing_file_and_a_missing_session(gateway: Gateway, files: Path) -> None:
    assert (await gateway.file("missing")).json == {"error": "file not found"}
    unknown = await gateway.file("small", session="unknown")
    assert (unknown.status, unknown.json) == (404, {"error": "session not found"})


@pytest.mark.parametrize("name", ["small", "large", "empty"])
async def test_an_http_1_0_client_gets_the_file_and_the_end(
    gateway: Gateway, files: Path, name: str
) -> None:
    async with await Wire.connect(gateway.port) as wire:
        answer = await wire.ask(FILES + name, AUTH, version="1.0")
        rest, end = await wire.rest()

    assert (answer.status, answer.body) == (200, content(name))
    assert answer.header("Transfer-Encoding") is None
    assert (rest, end) == (b"", "closed")


async def test_an_http_1_0_client_may_keep_the_connection(gateway: Gateway, files: Path) -> None:
    async with await Wire.connect(gateway.port) as wire:
        for name in ("small", "large", "small"):
            line = "Connection: keep-alive"
            answer = await wire.ask(FILES + name, AUTH, line, version="1.0")
            assert answer.body == content(name)


async def test_an_http_1_0_listing_is_not_chunked(gateway: Gateway, root: Path) -> None:
    plant(root, {f"s1/{number:05}": b"" for number in range(2000)})

    async with await Wire.connect(gateway.port) as wire:
        answer = await wire.ask(FILES.rstrip("/"), AUTH, version="1.0")

    assert answer.header("Transfer-Encoding") is None
    assert len(answer.json["files"]) == 2000


async def test_twenty_pipelined_requests_are_answered_in_order(
    gateway: Gateway, files: Path
) -> None:
    names = ["small", "large", "empty", "missing"] * 5
    async with await Wire.connect(gateway.port) as wire:
        await wire.send(b"".join(head(FILES + name, AUTH) for name in names))
        answers = [await wire.answer() for _ in names]

    for name, answer in zip(names, answers, strict=True):
        assert answer.status == (404 if name == "missing" else 200)
        if name != "missing":
            assert answer.body == content(name)


async def test_a_file_that_grows_is_sent_as_long_as_it_was(gateway: Gateway, files: Path) -> None:
    """Row 20."""
    growing = files / "growing"
    growing.write_bytes(LARGE)
    stop = asyncio.Event()

    async def append() -> None:
        with growing.open("ab", buffering=0) as file:
            while not stop.is_set():
                file.write(b"appended" * 1000)
                await asyncio.sleep(0)

    appending = asyncio.create_task(append())
    try:
        async with await Wire.connect(gateway.port, limit=4096) as wire:
            for _ in range(5):
                answer = await wire.ask(FILES + "growing", AUTH)
                assert answer.complete
                assert int(answer.header("Content-Length") or 0) == len(answer.body)
                assert answer.body.startswith(LARGE)
    finally:
        stop.set()
        await appending


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_a_file_that_shrinks_breaks_the_connection(
    root: Path, resolver: ResolverName, version: str
) -> None:
    """Row 21: to an HTTP/1.0 client a clean end would say that the file is complete."""
    size = 64 << 20
    with (root / "s1/shrinking").open("wb") as file:
        file.truncate(size)
    async with running(root, resolved_by(resolver)) as gateway:
        sock = _slow_reader(gateway)
        async with Wire(*await asyncio.open_connection(sock=sock)) as wire:
            await wire.send(head(FILES + "shrinking", AUTH, version=version))
            await wire.reader.readuntil(b"\r\n\r\n")
            os.truncate(root / "s1/shrinking", 1000)
            data, end = await wire.rest(10)
        after = await gateway.files()

    assert len(data) < size
    assert end == "reset"
    assert after.status == 200


@pytest.mark.parametrize(
    ("size", "keep", "target", "lines"),
    [
        (1000, 0, "file", ()),
        (1000, 999, "file", ()),
        (1000, 999, "file", ("Range: bytes=0-9",)),
        (1000, 999, "file", ("Range: bytes=0-9,20-29",)),
        (3_000_000, 0, "file", ()),
        (3_000_000, 4095, "file", ("Range: bytes=1000000-",)),
        (3_000_000, 2_999_999, "file?digest=sha256", ()),
        (3_000_000, 2_999_999, "file", ("Want-Repr-Digest: sha-512=1",)),
        (1000, 999, "file", ("Content-Type: application/json",)),
        (3_000_000, 0, "file", ("Content-Type: application/json",)),
    ],
)
async def test_a_file_that_shrinks_before_its_first_byte_is_an_error(
    root: Path,
    resolver: ResolverName,
    size: int,
    keep: int,
    target: str,
    lines: tuple[str, ...],
) -> None:
    """Nothing has been sent: there is room for an answer, and the connection is still good."""
    plant(root, {"s1/file": bytes(size)})
    local = {"type": "cut", "keep": keep, "resolver": resolver}
    with registered():
        async with (
            running(root, {"executors": {"local": local}}) as gateway,
            await Wire.connect(gateway.port) as wire,
        ):
            answer = await wire.ask(FILES + target, AUTH, *lines)
            after = await wire.ask("/livez")

    assert (answer.status, answer.complete) == (502, True)
    assert answer.json == {"error": "the file changed while it was read"}
    assert answer.header("Content-Type") == "application/json; charset=utf-8"
    for name in ("ETag", "Content-Disposition", "Accept-Ranges", "Content-Range"):
        assert answer.header(name) is None
    assert after.status == 200


def _slow_reader(gateway: Gateway, room: int = 4096) -> socket.socket:
    """A connection whose client has room for little."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    sock.connect(("127.0.0.1", gateway.port))
    sock.setblocking(False)
    return sock


@pytest.mark.parametrize(
    ("target", "count", "lines"),
    [
        (FILES + "large", 1, ()),
        (FILES + "large", 1, ("Range: bytes=0-1,5-2999999",)),
        (FILES + "large", 1, ("Content-Type: application/json",)),
        (FILES + "middling", 60, ()),
        (FILES.rstrip("/") + "?recursive=1", 1, ()),
        (FILES.rstrip("/"), 60, ()),
    ],
    ids=["large", "parts", "sdk", "small-pipelined", "listing", "listings-pipelined"],
)
async def test_a_reader_that_reads_nothing_is_cut_off(
    root: Path, resolver: ResolverName, target: str, count: int, lines: tuple[str, ...]
) -> None:
    """Row 38: and everything it held is given back, whatever it asked for."""
    big = 24 << 20
    plant(root, {"s1/large": bytes(big), "s1/middling": bytes(200_000)})
    plant(
        root,
        {f"s1/many/{number:0200}": b"" for number in range(12_000)}
        if "recursive" in target
        else {},
    )
    plant(root, {f"s1/{number:0200}": b"" for number in range(400)})
    changes = {"server": {"idle_timeout": "500ms"}, **resolved_by(resolver)}
    async with running(root, changes) as gateway:
        await gateway.files()  # what is opened once, and stays
        await eventually(lambda: not connections(gateway.port))
        before = held(gateway.port)
        with _slow_reader(gateway) as sock:
            await _send_all(sock, head(target, AUTH, *lines) * count)
            await asyncio.sleep(0.3)
            assert held(gateway.port) > before
            await eventually(lambda: held(gateway.port) <= before, 6)
        assert (await gateway.ask("/livez")).status == 200


async def _send_all(sock: socket.socket, data: bytes) -> None:
    """As much of *data* as the other side takes: it stops reading when it cannot answer."""
    try:
        async with asyncio.timeout(1):
            await asyncio.get_running_loop().sock_sendall(sock, data)
    except (TimeoutError, ConnectionError):
        pass


async def test_a_reader_that_drips_is_cut_off(root: Path, resolver: ResolverName) -> None:
    """Each byte on its own would keep the idle timeout from ever being reached."""
    plant(root, {"s1/large": bytes(24 << 20)})
    server = {"idle_timeout": "300ms", "min_rate": "8MiB"}
    async with running(root, {"server": server, **resolved_by(resolver)}) as gateway:
        with _slow_reader(gateway) as sock:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, head(FILES + "large", AUTH))
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(_drip(sock), 5)


async def _drip(sock: socket.socket) -> None:
    while await asyncio.get_running_loop().sock_recv(sock, 4096):
        await asyncio.sleep(0.02)


async def test_a_slow_but_steady_reader_is_served(root: Path, resolver: ResolverName) -> None:
    """Its socket says that there is room again only after a third of a buffer of megabytes."""
    plant(root, {"s1/large": LARGE * 2})
    changes = {"server": {"idle_timeout": "1s"}, **resolved_by(resolver)}
    async with running(root, changes) as gateway:
        with _slow_reader(gateway, room=50_000) as sock:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, head(FILES + "large", AUTH, "Connection: close"))
            data = bytearray()
            while piece := await loop.sock_recv(sock, 20_000):
                data += piece
                await asyncio.sleep(0.03)

    assert data.endswith(LARGE * 2)


async def test_to_an_http_1_0_client_a_listing_that_is_cut_off_has_no_clean_end(
    root: Path, resolver: ResolverName
) -> None:
    """Only the end of the connection says that the listing is whole."""
    plant(root, {f"s1/{number:0200}": b"" for number in range(12_000)})
    changes = {"server": {"idle_timeout": "200ms"}, **resolved_by(resolver)}
    async with running(root, changes) as gateway:
        sock = _slow_reader(gateway)
        async with Wire(*await asyncio.open_connection(sock=sock, limit=1024)) as wire:
            await wire.send(head(FILES.rstrip("/"), AUTH, version="1.0"))
            await wire.reader.readuntil(b"\r\n\r\n")
            await eventually(lambda: not connections(gateway.port))
            data, end = await wire.rest()

    assert not data.endswith(b"]}")
    assert end == "reset"


async def test_a_client_that_leaves_frees_the_file(gateway: Gateway, files: Path) -> None:
    with (files / "sparse").open("wb") as file:
        file.truncate(90 << 20)
    await gateway.file("small")
    await eventually(lambda: not connections(gateway.port))
    before = held(gateway.port)
    for line in ("Accept: */*", "Content-Type: application/json", "Want-Repr-Digest: sha-256=1"):
        for _ in range(5):
            with _slow_reader(gateway) as sock:
                await asyncio.get_running_loop().sock_sendall(
                    sock, head(FILES + "sparse", AUTH, line)
                )
                await eventually(lambda: held(gateway.port) > before + 1)

    await eventually(lambda: held(gateway.port) <= before)


async def test_the_end_of_a_file_does_not_wait_for_more(gateway: Gateway, root: Path) -> None:
    """TCP keeps a segment back for 200 ms that is not full, if it is told that more will come."""
    data = bytes(8 << 20)  # enough for that to be worth while
    plant(root, {"s1/huge": data})
    waits = []
    async with await Wire.connect(gateway.port) as wire:
        for _ in range(5):
            began = time.monotonic()
            answer = await wire.ask(FILES + "huge", AUTH)
            waits.append(time.monotonic() - began)
            assert answer.body == data

    assert min(waits) < 0.15


async def test_forty_downloads_at_once_do_not_mix(gateway: Gateway, files: Path) -> None:
    contents = {f"f{n}": random.Random(n).randbytes(400_000) for n in range(40)}
    plant(files, dict(contents))

    answers = await asyncio.gather(*(ask(gateway.port, FILES + name, AUTH) for name in contents))

    assert [answer.body for answer in answers] == list(contents.values())


async def test_many_digests_at_once_starve_nobody(tmp_path: Path, root: Path) -> None:
    """Hashing is work for the processor alone: a little at a time, whoever asks for it."""
    plant(root, {"s1/large": bytes(20_000_000)})
    with command(tmp_path, root) as process:
        gateway = Gateway(process.port, 0)
        lags: list[float] = []
        while len(lags) < 4 and min(lags, default=1) >= 0.2:  # a busy machine delays everybody
            targets = ["large?digest=sha256"] * 40
            asking = asyncio.gather(*(gateway.file(each, method="HEAD") for each in targets))
            lags.append(await slowest_liveness(gateway, asking.done))
            assert {answer.status for answer in await asking} == {200}

    assert min(lags) < 0.2
