"""What a hostile path, or a hostile tree, gets from the download and the listing."""

import asyncio
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote_from_bytes

import pytest
from aiohttp.multipart import content_disposition_filename, parse_content_disposition

from tests import needs
from tests.conftest import ResolverName
from tests.gateways import AUTH, Gateway, command, plant, resolved_by, running, slowest_liveness
from tests.wire import Answer, ask

TRAVERSAL = b'{"error":"invalid path: traversal not allowed"}'
ABSOLUTE = b'{"error":"invalid path: absolute paths not allowed"}'
LINK = b'{"error":"invalid path: symbolic link leaves the workspace"}'
SECRET = b"SECRET-CANARY"

TRAVERSALS = [
    "../x",
    "..",
    "../",
    "a/..",
    "a/../b",
    "a/b/../../../s2/x",
    "./../x",
    "%2e%2e/x",
    ".%2e/x",
    "%2E%2E%2Fx",
    "a%2F..%2Fb",
    "%2e%2e",
    "a/%2e%2e",
    "..%5c..%5cx",
    r"..\..\x",
    r"a\..\b",
    r"a\..",
    "a%5C..",
    "/../x",
    "%2F..%2Fx",
    "../%00",
]


@pytest.mark.parametrize("raw", TRAVERSALS)
async def test_a_traversal_is_refused_before_the_disk_is_asked(
    tmp_path: Path, resolver: ResolverName, raw: str
) -> None:
    """Rows 1, 2, 4: with no root to look into, every look would be a 502."""
    async with running(tmp_path / "missing", resolved_by(resolver)) as gateway:
        downloaded = await gateway.file(raw)
        listed = await gateway.files(f"path={raw}")
        looked_up = await gateway.file("x")

    assert (downloaded.status, downloaded.body) == (400, TRAVERSAL)
    assert (listed.status, listed.body) == (400, TRAVERSAL)
    assert looked_up.status == 502


@pytest.mark.parametrize(
    "raw", ["/etc/passwd", "%2Fetc%2Fpasswd", "//x", "%2f", "/", "//", "/x", "%2F%2Fx", "/s1/x"]
)
async def test_an_absolute_path_is_refused(
    tmp_path: Path, resolver: ResolverName, raw: str
) -> None:
    """Row 3: `/files//etc/passwd` and its spellings; a listing takes exactly `/`, nothing else."""
    async with running(tmp_path / "missing", resolved_by(resolver)) as gateway:
        downloaded = await gateway.file(raw)
        listed = await gateway.files(f"path={raw}")

    assert (downloaded.status, downloaded.body) == (400, ABSOLUTE)
    if raw not in ("/", "%2f"):
        assert (listed.status, listed.body) == (400, ABSOLUTE)


async def test_what_is_encoded_twice_is_an_ordinary_name(gateway: Gateway, root: Path) -> None:
    """Row 5."""
    missing = await gateway.file("%252e%252e%252fetc")
    plant(root, {"s1/%2e%2e": b"by its name"})
    found = await gateway.file("%252e%252e")

    assert (missing.status, missing.body) == (404, b'{"error":"file not found"}')
    assert (found.status, found.body) == (200, b"by its name")


@pytest.mark.parametrize(
    "raw",
    [
        "%c0%ae%c0%ae/x",
        "%e0%80%ae",
        "%e0%80%ae%e0%80%ae/x",
        "%u002e%u002e/x",
        "%EF%BC%8E%EF%BC%8E/x",
        "..;/x",
        "....//x",
        "..%0d/x",
        "..%20/x",
        "..%3b/x",
        ".%00./x",
        "%2%65%2%65/x",
        "%",
        "%zz",
        "%2",
        "..%c0%afx",
        "..%ef%bc%8fx",
        "..%c1%9cx",
        "..%u2215x",
        "..%2",
        "%ee%be%af%ee%be%ae",
        "%ed%b0%80",
        "\\\\host\\share",
        "C:/Windows",
        "~root/x",
        "file:x",
        "%ff",
        "a%0a/../../x",
    ],
)
async def test_a_disguised_traversal_never_gets_out(gateway: Gateway, root: Path, raw: str) -> None:
    """Row 6: overlong UTF-8, full-width dots, `%u`, a byte escape, Windows forms."""
    plant(root, {"x": SECRET, "s2/x": SECRET})

    answers = [await gateway.file(raw), await gateway.files(f"path={raw}")]

    for answer in answers:
        assert answer.status in (400, 404), answer
        assert SECRET not in answer.body


@pytest.mark.parametrize(
    "name",
    [
        *("a..b", "..a", "a..", "...", "....", "-rf", "a b", "a%b", "a+b", "a#b", "a?b", "café"),
        *(
            "a%2fb",
            "%00",
            "a;b",
            "a&b=c",
            "a:b",
            " ",
            ".",
            "~",
            "*",
            "a\nb",
            "a\tb",
            '"',
            "\\",
            "日本",
        ),
        *("cafe\u0301", "\U0001f600", "\ufeff", "\u202e", "\x7f", "\x80", "x" * 255, "é" * 127),
    ],
    ids=ascii,
)
async def test_an_unusual_name_is_an_ordinary_file(gateway: Gateway, root: Path, name: str) -> None:
    """Row 7."""
    name = "..." if name == "." else name
    content = f"the file {name!r}".encode()
    plant(root, {f"s1/{name}": content, f"s1/deep/{name}": content + b"!"})
    raw = quote_from_bytes(name.encode(), safe="")

    answers = [await gateway.file(raw), await gateway.file("deep/" + raw)]

    assert [(a.status, a.body) for a in answers] == [(200, content), (200, content + b"!")]


async def test_names_that_differ_in_normalisation_are_two_files(
    gateway: Gateway, root: Path
) -> None:
    plant(root, {"s1/caf\u00e9": b"NFC", "s1/cafe\u0301": b"NFD"})

    assert (await gateway.file("caf%C3%A9")).body == b"NFC"
    assert (await gateway.file("cafe%CC%81")).body == b"NFD"


@pytest.mark.parametrize("raw", ["a%00", "a%00.txt", "%00a", "%00", "d/%00/a", "a%00/b"])
async def test_a_nul_byte_is_refused(gateway: Gateway, root: Path, raw: str) -> None:
    """Row 8: and it opens no other file, as the C library would at the NUL."""
    plant(root, {"s1/a": SECRET, "s1/d/a": SECRET})

    answers = [await gateway.file(raw), await gateway.files(f"path={raw}")]

    for answer in answers:
        assert answer.status == 400
        assert answer.json == {"error": "invalid path: NUL byte not allowed"}


async def test_a_listed_path_may_not_be_given_twice(gateway: Gateway) -> None:
    """Row 9: which of the two would be checked, and which listed?"""
    answer = await gateway.files("path=ok&path=../x")

    assert answer.status == 400
    assert (await gateway.files("path=..")).body == TRAVERSAL
    assert (await gateway.files("path=%2Fetc")).body == ABSOLUTE


@pytest.mark.parametrize(
    "query", ["", "path=", "path=.", "path=./", "path=/", "path=%2F", "path=./."]
)
async def test_no_path_is_the_whole_workspace(gateway: Gateway, root: Path, query: str) -> None:
    """Row 10."""
    plant(root, {"s1/a": b""})

    answer = await gateway.files(query)

    assert (answer.status, answer.json["path"]) == (200, "/")
    assert [entry["path"] for entry in answer.json["files"]] == ["/a"]


@pytest.mark.parametrize("length", [4096, 9000])
async def test_an_over_long_path_is_refused(gateway: Gateway, length: int) -> None:
    """Row 10."""
    raw = ("d/" * length)[:length]

    answers = [await gateway.file(raw + "x"), await gateway.files(f"path={raw}")]

    for answer in answers:
        assert answer.status == 400
        assert answer.json == {"error": "invalid path: longer than 4095 bytes"}


async def test_the_longest_path_is_a_path(gateway: Gateway, root: Path) -> None:
    raw = "d/" * 2047 + "x"
    name_too_long = "x" * 256

    assert (await gateway.file(raw)).json == {"error": "file not found"}
    assert (await gateway.file(name_too_long)).json == {"error": "file not found"}


@pytest.mark.parametrize(
    "target",
    [
        "/etc/passwd",
        "/nothing/at/all",
        "../../other/secret",
        "../../other/missing",
        "../s1/f",
        "../s2/secret",
        "../s2",
        "..",
        "/",
        "/proc/self/environ",
        "/proc/self/root",
        "d/../../s2/secret",
        "./../s2/secret",
    ],
)
async def test_a_link_that_leaves_is_refused(gateway: Gateway, root: Path, target: str) -> None:
    """Row 11: with one answer, whether its target exists or not, and even if it comes back."""
    plant(
        root,
        {
            "../other/secret": SECRET,
            "s2/secret": SECRET,
            "s1/f": b"inside",
            "s1/d/e": b"",
            "s1/link": target,
        },
    )

    downloaded = await gateway.file("link")
    listed = await gateway.files("path=link")
    whole = await gateway.files("recursive=true")

    assert (downloaded.status, downloaded.body) == (400, LINK)
    assert (listed.status, listed.body) == (400, LINK)
    (shown,) = [entry for entry in whole.json["files"] if entry["name"] == "link"]
    assert (shown["is_symlink"], shown["is_dir"], shown["size"]) == (True, False, 0)
    assert b"secret" not in whole.body


async def test_a_linked_directory_outside_is_never_entered(gateway: Gateway, root: Path) -> None:
    """Row 12."""
    plant(root, {"s2/child": SECRET, "s1/dirlink": "../s2", "s1/absolute": str(root / "s2")})

    for raw in ("dirlink/child", "absolute/child", "dirlink/missing", "absolute/missing"):
        answer = await gateway.file(raw)
        assert (answer.status, answer.body) == (400, LINK)
    for raw in ("dirlink", "absolute", "dirlink/", "dirlink/child"):
        answer = await gateway.files(f"path={raw}&recursive=1")
        assert (answer.status, answer.body) == (400, LINK)
    whole = await gateway.files("recursive=1")
    assert [entry["path"] for entry in whole.json["files"]] == ["/absolute", "/dirlink"]


async def test_a_link_that_stays_inside_is_followed(gateway: Gateway, root: Path) -> None:
    """Row 13: Linux follows 40 links, and so does each resolver."""
    plant(root, {"s1/d/file": b"inside", "s1/0": "d/file", "s1/e/up": "../d/file", "s1/dl": "d"})
    for number in range(1, 41):
        os.symlink(str(number - 1), root / "s1" / str(number))

    for raw in ("0", "e/up", "dl/file", "39"):
        answer = await gateway.file(raw)
        assert (answer.status, answer.body) == (200, b"inside")
    assert (await gateway.file("40")).body == LINK  # the 41st link on the way
    listed = await gateway.files("path=dl")
    assert (listed.json["path"], listed.json["files"][0]["path"]) == ("/dl", "/dl/file")


@pytest.mark.parametrize(
    ("links", "raw", "status"),
    [
        ({"s1/a": "b", "s1/b": "a"}, "a", 400),
        ({"s1/a": "a"}, "a", 400),
        ({"s1/a": "a/b"}, "a", 400),
        ({"s1/a": "nowhere"}, "a", 404),
        ({"s1/a": "nowhere/at/all"}, "a", 404),
        ({"s1/a": "nowhere"}, "a/b", 404),
    ],
)
async def test_loops_and_dangling_links_are_answered_at_once(
    gateway: Gateway, root: Path, links: dict[str, str], raw: str, status: int
) -> None:
    """Row 14."""
    plant(root, links)

    began = time.perf_counter()
    answer = await gateway.file(raw)
    listed = await gateway.files(f"path={raw}")
    took_s = time.perf_counter() - began

    assert (answer.status, listed.status) == (status, status)
    assert answer.body == (LINK if status == 400 else b'{"error":"file not found"}')
    assert took_s < 2


async def test_a_session_whose_name_begins_alike_is_another(gateway: Gateway, root: Path) -> None:
    """Row 15."""
    plant(root, {"s1-secret/f": SECRET, "s1/link": "../s1-secret/f"})

    assert (await gateway.file("link")).body == LINK
    assert (await gateway.file("../s1-secret/f")).body == TRAVERSAL
    assert (await gateway.file("-secret/f")).status == 404


@pytest.mark.parametrize(
    "session",
    ["..", ".", "%2e%2e", "s1%2f..%2fs2", "..%2fs2", "s1%00", "s%31%2Ff", "-s1", "s1.", "%C3%A9",
     "s1%0a", "s 1", "%ff", "x" * 129, "s1;x", "%73%31%20"],
)  # fmt: skip
async def test_a_session_id_is_an_id_and_nothing_else(
    gateway: Gateway, root: Path, session: str
) -> None:
    plant(root, {"f": SECRET, "s2/f": SECRET})

    answers = [
        await gateway.file("f", session=session.replace(" ", "%20")),
        await gateway.files(session=session.replace(" ", "%20")),
    ]

    for answer in answers:
        assert (answer.status, answer.json) == (400, {"error": "invalid session id"})


async def test_a_session_may_not_be_a_link(gateway: Gateway, root: Path) -> None:
    """An agent that can write beside its workspace could otherwise point one at another's."""
    plant(root, {"s2/f": SECRET, "linked": "s2", "file": b""})

    for session in ("linked", "file", "missing"):
        for answer in (
            await gateway.file("f", session=session),
            await gateway.files(session=session),
        ):
            assert (answer.status, answer.json) == (404, {"error": "session not found"})


async def test_a_fifo_is_answered_at_once(gateway: Gateway, root: Path) -> None:
    """Row 17: an open would wait for a writer for ever."""
    os.mkfifo(root / "s1" / "fifo")

    lags = []
    for _ in range(3):  # a busy machine delays everybody now and then
        began = time.perf_counter()
        requests = [gateway.file("fifo") for _ in range(50)]
        requests += [gateway.files("path=fifo") for _ in range(10)]
        answering = asyncio.gather(*requests)
        lags.append(await slowest_liveness(gateway, answering.done))
        answers = await answering
        took_s = time.perf_counter() - began
        assert {(a.status, a.body) for a in answers} == {(404, b'{"error":"file not readable"}')}
        if lags[-1] < 0.2 and took_s < 3:
            break

    assert took_s < 3
    assert min(lags) < 0.2
    (shown,) = (await gateway.files()).json["files"]
    assert (shown["name"], shown["size"], shown["is_dir"]) == ("fifo", 0, False)


async def test_a_socket_is_not_a_file(gateway: Gateway, root: Path) -> None:
    """Row 18."""
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(root / "s1", os.O_PATH)
        listener.bind(f"/proc/self/fd/{here}/sock")
        os.close(here)

        answers = [await gateway.file("sock"), await gateway.files("path=sock")]

    for answer in answers:
        assert (answer.status, answer.json) == (404, {"error": "file not readable"})


@pytest.mark.parametrize(("name", "minor"), [("null", 3), ("zero", 5)])
async def test_a_device_is_not_a_file(gateway: Gateway, root: Path, name: str, minor: int) -> None:
    """Row 18."""
    needs.root()
    os.mknod(root / "s1" / name, 0o20666, os.makedev(1, minor))

    answers = [await gateway.file(name), await gateway.files(f"path={name}")]

    for answer in answers:
        assert (answer.status, answer.json) == (404, {"error": "file not readable"})


async def test_the_size_limit_is_inclusive(root: Path, resolver: ResolverName) -> None:
    """Row 19."""
    plant(root, {"s1/at": bytes(1 << 20), "s1/over": bytes((1 << 20) + 1)})
    changes = {"limits": {"file": "1MiB"}, **resolved_by(resolver)}
    async with running(root, changes) as gateway:
        at, over = await gateway.file("at"), await gateway.file("over")
        ranged = await gateway.file("over", "Range: bytes=0-0")
        headers_only = await gateway.file("over", method="HEAD")
        unchanged = await gateway.file("over", "If-None-Match: *")

    assert (at.status, len(at.body)) == (200, 1 << 20)
    for answer in (over, ranged, unchanged):
        assert answer.status == 413
        assert answer.body == b'{"error":"file exceeds maximum size limit (1MB)"}'
    assert headers_only.status == 413


async def test_a_file_may_have_100_mib_unless_the_config_says_otherwise(
    gateway: Gateway, root: Path
) -> None:
    """Row 19."""
    most = 104_857_600
    for name, size in (("at", most), ("over", most + 1)):
        with (root / "s1" / name).open("wb") as file:
            file.truncate(size)

    at = await gateway.file("at", method="HEAD")
    end = await gateway.file("at", "Range: bytes=-5", f"If-Range: {at.header('ETag')}")
    over = await gateway.file("over")

    assert (at.status, at.header("Content-Length")) == (200, str(most))
    assert (end.status, end.body) == (206, bytes(5))
    assert over.status == 413
    assert over.body == b'{"error":"file exceeds maximum size limit (100MB)"}'


async def test_a_sparse_terabyte_costs_nothing(gateway: Gateway, root: Path) -> None:
    """Row 19."""
    with (root / "s1" / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    before = _resident()

    began = time.perf_counter()
    answer = await gateway.file("sparse")
    sdk = await gateway.file("sparse", "Content-Type: application/json")
    digest = await gateway.file("sparse?digest=sha256")
    took_s = time.perf_counter() - began

    for refused in (answer, sdk, digest):
        assert refused.status == 413
        assert refused.body == b'{"error":"file exceeds maximum size limit (100MB)"}'
    assert took_s < 5
    assert _resident() - before < 20 << 20
    assert (await gateway.files()).json["files"][0]["size"] == 1 << 40


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


# As nobody it cannot import from an interpreter below /root: all that it needs is loaded before.
AS_NOBODY = """
import os, sys
import encodings.idna, gateway.server, gateway.systemd, gateway.workers
from gateway.cli import main

main(["check", "--probe", "--config", sys.argv[-1]], standalone_mode=False)
os.setgroups([]); os.setgid(65534); os.setuid(65534)
main(sys.argv[4:], prog_name="workspace-gateway")
"""


def powerless(root: Path) -> tuple[str, ...]:
    """Starts it without the capabilities by which root reads everything."""
    if os.geteuid() != 0:
        return ()
    powers = "-dac_override,-dac_read_search"
    return (needs.program("setpriv"), f"--bounding-set={powers}", f"--inh-caps={powers}")


def nobody(root: Path) -> tuple[str, ...]:
    """Starts it as another user than that of the files, and lets him as far as *root*."""
    needs.root()
    for above in (root, *root.parents):  # pytest's own directories are closed to others
        if above.stat().st_mode & 0o005 != 0o005:
            above.chmod(0o755)
    os.chown(root.parent, 65534, 65534)  # its store is there
    return (sys.executable, "-c", AS_NOBODY)


@pytest.mark.parametrize(
    ("user", "mode"), [(powerless, 0), (nobody, 0o600)], ids=["powerless", "nobody"]
)
async def test_what_the_gateway_may_not_read_is_not_readable(
    tmp_path: Path,
    root: Path,
    resolver: ResolverName,
    user: Callable[[Path], tuple[str, ...]],
    mode: int,
) -> None:
    """Row 22."""
    plant(root, {f"s1/{name}": SECRET for name in ("closed", "d/inner", "x/inner")})
    plant(root, {"s1/open": b"ok"})
    (root / "s1/closed").chmod(mode)
    (root / "s1/d").chmod(mode)
    (root / "s1/x").chmod(0o444)  # its names may be read, but it may not be entered
    launcher = user(root)

    with command(tmp_path, root, resolved_by(resolver), launcher=launcher) as process:
        gateway = Gateway(process.port, 0)
        refused = [await gateway.file(raw) for raw in ("closed", "d/inner", "x/inner")]
        refused_listing = await gateway.files("path=d")
        unsearchable = await gateway.files("path=x")
        whole = await gateway.files("recursive=true")
        found = await gateway.file("open")
    (root / "s1/d").chmod(0o755)
    (root / "s1/x").chmod(0o755)

    for answer in (*refused, refused_listing):
        assert (answer.status, answer.json) == (404, {"error": "file not readable"})
    assert (found.status, found.body) == (200, b"ok")
    assert unsearchable.status in (200, 404)
    shown = {entry["path"]: entry for entry in whole.json["files"]}
    assert shown["/d"]["error"] == "not readable"
    assert set(shown) >= {"/closed", "/d", "/open", "/x"}
    assert "/d/inner" not in shown


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("evil.html", b"<script>alert(1)</script>", "text/html; charset=utf-8"),
        ("x.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "image/svg+xml"),
        ("noext", b"<script>alert(1)</script>", "text/plain; charset=utf-8"),
        ("x.png", b"<script>alert(1)</script>", "text/plain; charset=utf-8"),
        ("x.html", b"\x89PNG\r\n\x1a\n" + bytes(30), "image/png"),
        ("x.xhtml", b"<html/>", "application/xhtml+xml"),
        ("x.html", b"\xff\xfe<\0s\0", "text/plain"),
        ("empty.html", b"", "text/html; charset=utf-8"),
        ("x.pdf", b"%PDF-1.7 \x00\x01", "application/pdf"),
        ("x.js", b"alert(1)\0", "application/octet-stream"),
    ],
)
async def test_no_workspace_file_runs_in_a_browser(
    gateway: Gateway, root: Path, name: str, content: bytes, kind: str
) -> None:
    """Row 23."""
    plant(root, {f"s1/{name}": content, "s1/copy": content})

    for method in ("GET", "HEAD"):
        _assert_inert(await gateway.file(name, method=method), kind)
    if content:
        _assert_inert(await gateway.file(name, "Range: bytes=0-1"), kind)


def _assert_inert(answer: Answer, kind: str) -> None:
    assert answer.header("Content-Type") == kind
    assert answer.header("X-Content-Type-Options") == "nosniff"
    assert answer.header("Content-Security-Policy") == "sandbox; default-src 'none'"
    disposition = answer.header("Content-Disposition")
    assert disposition is not None
    assert disposition.startswith("attachment;")


@pytest.mark.parametrize(
    ("name", "saved_as"),
    [
        ('a"b', 'a"b'),
        ("a;b=c", "a;b=c"),
        ("é", "é"),
        ("日本.txt", "日本.txt"),
        ("a b", "a b"),
        ("100%41", "100%41"),
        ("a\nSet-Cookie: x=y", "a_Set-Cookie: x=y"),
        ("a\r\n\r\n<script>", "a____<script>"),
        ("\u202egpj.exe", "_gpj.exe"),
        ("a\\b", "a_b"),
        ("x" * 255, "x" * 255),
        ("é" * 127, "é" * 127),
        ("\x7f\x1b[31m", "__[31m"),
        (b"\xff\xfe", None),
    ],
    ids=ascii,
)
async def test_any_name_fits_into_one_header_line(
    gateway: Gateway, root: Path, name: str | bytes, saved_as: str | None
) -> None:
    """Row 24: the header is read by somebody else's parser."""
    plant(root, {os.fsencode("s1/") + os.fsencode(name): b"content"})
    (shown,) = (await gateway.files()).json["files"]

    answer = await gateway.file(quote_from_bytes(shown["path"][1:].encode(), safe=""))

    assert (answer.status, answer.body) == (200, b"content")
    assert answer.header("Set-Cookie") is None
    line = answer.header("Content-Disposition")
    assert line is not None
    assert line.isascii()
    assert line.isprintable()
    kind, parameters = parse_content_disposition(line)
    assert kind == "attachment"
    assert content_disposition_filename(parameters) is not None
    if saved_as is not None:
        assert content_disposition_filename(parameters) == saved_as


async def test_the_absolute_form_of_a_target_is_judged_alike(gateway: Gateway, root: Path) -> None:
    """A proxy may send `GET http://host/path`; nothing of it is collapsed on the way in."""
    plant(root, {"s2/f": SECRET, "s1/f": b"inside"})
    base = "http://elsewhere/api/v1/sessions/s1/files/"

    assert (await ask(gateway.port, base + "f", AUTH)).body == b"inside"
    assert (await ask(gateway.port, base + "../../s2/files/f", AUTH)).body == TRAVERSAL
    assert (await ask(gateway.port, base + "%2e%2e/f", AUTH)).body == TRAVERSAL
