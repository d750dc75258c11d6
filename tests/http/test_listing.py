"""Listings: the documented form, the parameters, paging, and trees that nobody would make."""

import asyncio
import os
import re
import socket
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest

from tests.conftest import ResolverName
from tests.e2e.operating import Clients
from tests.gateways import AUTH, Gateway, command, plant, resolved_by, running, slowest_liveness
from tests.wire import head

MEMORY = Path("/dev/shm")
TREE = {
    "s1/analysis.py": b"print()\n",
    "s1/output/results.csv": b"a,b\n",
    "s1/output/deep/er/x.txt": b"x",
    "s1/output-2/y": b"",
    "s1/output.d/z": b"",
    "s1/zlast": b"z",
    "s1/.hidden": b"h",
}
ALL = [
    "/.hidden",
    "/analysis.py",
    "/output",
    "/output/deep",
    "/output/deep/er",
    "/output/deep/er/x.txt",
    "/output/results.csv",
    "/output-2",
    "/output-2/y",
    "/output.d",
    "/output.d/z",
    "/zlast",
]


def paths(body: Any) -> list[str]:
    return [entry["path"] for entry in body["files"]]


async def test_the_documented_form(gateway: Gateway, root: Path) -> None:
    """Keys, their order, and nothing else: the example of Shannon's documentation."""
    plant(root, {"s1/analysis.py": b"x" * 1234, "s1/output/results.csv": b"y" * 56789})
    for name, when in (("analysis.py", 0), ("output/results.csv", 600), ("output", 300)):
        os.utime(root / "s1" / name, (1773136800 + when, 1773136800.9 + when))

    answer = await gateway.files("recursive=true")

    assert answer.header("Content-Type") == "application/json; charset=utf-8"
    assert answer.header("X-Workspace-Source") == "local"
    assert answer.body == orjson.dumps(
        {
            "session_id": "s1",
            "path": "/",
            "files": [
                {
                    "name": "analysis.py",
                    "path": "/analysis.py",
                    "size": 1234,
                    "is_dir": False,
                    "modified_at": "2026-03-10T10:00:00Z",
                },
                {
                    "name": "output",
                    "path": "/output",
                    "size": 0,
                    "is_dir": True,
                    "modified_at": "2026-03-10T10:05:00Z",
                },
                {
                    "name": "results.csv",
                    "path": "/output/results.csv",
                    "size": 56789,
                    "is_dir": False,
                    "modified_at": "2026-03-10T10:10:00Z",
                },
            ],
        }
    )


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [p for p in ALL if p.count("/") == 1]),
        ("recursive=false", [p for p in ALL if p.count("/") == 1]),
        ("recursive=0", [p for p in ALL if p.count("/") == 1]),
        ("recursive=true", ALL),
        ("recursive=1", ALL),
        ("recursive=true&depth=1", [p for p in ALL if p.count("/") == 1]),
        ("depth=1", [p for p in ALL if p.count("/") == 1]),
        ("depth=2", [p for p in ALL if p.count("/") <= 2]),
        ("recursive=true&depth=3", [p for p in ALL if p.count("/") <= 3]),
        ("recursive=true&depth=256", ALL),
        ("path=output", ["/output/deep", "/output/results.csv"]),
        ("path=output/", ["/output/deep", "/output/results.csv"]),
        ("path=./output//.", ["/output/deep", "/output/results.csv"]),
        ("path=output%2Fdeep&recursive=1", ["/output/deep/er", "/output/deep/er/x.txt"]),
        ("path=output&depth=2", ["/output/deep", "/output/deep/er", "/output/results.csv"]),
        ("recursive=1&glob=*.py", ["/analysis.py"]),
        ("recursive=1&glob=*.{csv,txt}", []),
        ("recursive=1&glob=**/*.txt", ["/output/deep/er/x.txt"]),
        ("recursive=1&glob=output/", [p for p in ALL if p.split("/")[1] == "output"]),
        ("recursive=1&exclude=output*", ["/.hidden", "/analysis.py", "/zlast"]),
        ("recursive=1&exclude=/output/", [p for p in ALL if p.split("/")[1] != "output"]),
        ("recursive=1&exclude=*&exclude=!*.py", ["/analysis.py"]),
        ("recursive=1&exclude=.*&exclude=output*", ["/analysis.py", "/zlast"]),
        ("recursive=1&exclude=x.txt", [p for p in ALL if not p.endswith("x.txt")]),
        ("recursive=1&exclude=%23c&exclude=&exclude=%20", ALL),
        ("recursive=1&glob=*.txt&exclude=er", []),
        ("glob=a*&unknown=1", ["/analysis.py"]),
    ],
)
async def test_what_is_listed(
    gateway: Gateway, root: Path, query: str, expected: list[str]
) -> None:
    plant(root, TREE)

    answer = await gateway.files(query)

    assert answer.status == 200
    assert paths(answer.json) == expected
    assert set(answer.json) == {"session_id", "path", "files"}


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("recursive=yes", "recursive"),
        ("recursive=TRUE", "recursive"),
        ("recursive=", "recursive"),
        ("recursive=2", "recursive"),
        ("recursive=true&recursive=true", "recursive"),
        ("recursive=%ff", "recursive"),
        ("depth=0", "depth"),
        ("depth=257", "depth"),
        ("depth=-1", "depth"),
        ("depth=x", "depth"),
        ("depth=1.5", "depth"),
        ("depth=", "depth"),
        ("depth=%D9%A1", "depth"),
        ("depth=" + "9" * 5000, "depth"),
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=100001", "limit"),
        ("limit=x", "limit"),
        ("limit=1&limit=2", "limit"),
        ("cursor=", "cursor"),
        ("cursor=x", "cursor"),
        ("cursor=%00", "cursor"),
        ("cursor=%C3%A9", "cursor"),
        ("cursor=Li4", "cursor"),  # ..
        ("cursor=L2V0Yw", "cursor"),  # /etc
        ("cursor=YQBi", "cursor"),  # a NUL
        ("cursor=YS8uLi9i", "cursor"),  # a/../b
        ("path=output&cursor=YW5hbHlzaXMucHk", "cursor"),  # of another directory
        ("glob=!x", "glob"),
        ("glob=%ff", "glob"),
        ("glob=a&glob=b", "glob"),
        ("glob=" + "x" * 1025, "glob"),
        ("exclude=%5C", "exclude"),
        ("exclude=" + "x" * 1025, "exclude"),
        ("&".join(f"exclude={n}" for n in range(101)), "exclude"),
        ("path=a&path=b", "path"),
    ],
)
async def test_a_bad_parameter_is_named(
    gateway: Gateway, root: Path, query: str, named: str
) -> None:
    plant(root, TREE)

    answer = await gateway.files(query)

    assert answer.status == 400
    assert list(answer.json) == ["error"]
    assert answer.json["error"].startswith(f"{named}:")


async def test_a_pattern_never_takes_long(gateway: Gateway, root: Path) -> None:
    """The client writes the patterns and the agent the names: either may attack."""
    plant(root, {f"s1/{'a' * 250}{n}": b"" for n in range(200)})
    stars = quote("*a" * 200 + "b")

    began = time.process_time()
    answer = await gateway.files(f"glob={stars}&exclude={stars}&exclude={quote('**/' * 200 + 'b')}")

    assert answer.status in (200, 400)
    assert time.process_time() - began < 2


@pytest.mark.parametrize("limit", [1, 2, 5, 11, 12, 13])
@pytest.mark.parametrize("query", ["recursive=1", "recursive=1&exclude=deep", "depth=2&glob=o*"])
async def test_pages_together_are_the_listing(
    gateway: Gateway, root: Path, query: str, limit: int
) -> None:
    plant(root, TREE)
    whole = (await gateway.files(query)).json

    pages = await _pages(gateway, f"{query}&limit={limit}")

    assert [entry for page in pages for entry in page["files"]] == whole["files"]
    assert all(len(page["files"]) == limit for page in pages[:-1])
    assert all("truncated" not in page for page in pages)


async def _pages(gateway: Gateway, query: str) -> list[Any]:
    pages = [(await gateway.files(query)).json]
    while cursor := pages[-1].get("next_cursor"):
        answer = await gateway.files(f"{query}&cursor={cursor}")
        assert answer.status == 200, answer
        pages.append(answer.json)
        assert len(pages) < 1000
    return pages


async def test_pages_reach_every_name_and_every_depth(gateway: Gateway, root: Path) -> None:
    """Names that are not text, paths longer than a path may be, and both at once."""
    plant(root, {f"s1/{os.fsdecode(name)}": b"" for name in STRANGE})
    plant(root, {b"s1/" + b"/".join([b"\xff" * 250] * 7) + b"/end": b""})
    _nest(root / "s1", ["d" * 200] * 30)
    whole = (await gateway.files("recursive=1")).json

    pages = await _pages(gateway, "recursive=1&limit=1")

    assert [entry["path"] for page in pages for entry in page["files"]] == paths(whole)


def _nest(top: Path, names: list[str]) -> None:
    """Directories in directories, further down than a path can tell."""
    here = os.open(top, os.O_RDONLY)
    for name in names:
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


async def test_a_cursor_outlives_what_it_named(gateway: Gateway, root: Path) -> None:
    plant(root, TREE)
    first = (await gateway.files("recursive=1&limit=5")).json
    assert paths(first)[-1] == "/output/deep/er"
    (root / "s1/output/deep/er/x.txt").unlink()
    (root / "s1/output/deep/er").rmdir()
    (root / "s1/output/deep").rmdir()

    second = (await gateway.files(f"recursive=1&limit=5&cursor={first['next_cursor']}")).json

    assert paths(second) == [
        "/output/results.csv",
        "/output-2",
        "/output-2/y",
        "/output.d",
        "/output.d/z",
    ]


async def test_a_cursor_enters_no_link(gateway: Gateway, root: Path) -> None:
    """What a cursor names may have been replaced since, or may never have been listed."""
    plant(root, {"s2/secret": b"", "s1/a/b": b"", "s1/z": b"", "s1/out": "../s2"})
    forged = "b3V0L2E"  # out/a

    answer = await gateway.files(f"recursive=1&cursor={forged}")

    assert answer.status == 200
    assert b"secret" not in answer.body
    assert paths(answer.json) == ["/z"]


async def test_a_truncated_listing_says_so_and_goes_on(root: Path, resolver: ResolverName) -> None:
    plant(root, TREE)
    changes = {"limits": {"list_entries": 5}, **resolved_by(resolver)}
    async with running(root, changes) as gateway:
        first = (await gateway.files("recursive=1")).json
        pages = await _pages(gateway, "recursive=1")
        exact = (await gateway.files("recursive=1&path=output")).json
        sdk = await gateway.files("recursive=1", "Content-Type: application/json")

    assert first["truncated"] is True
    assert list(first)[-2:] == ["truncated", "next_cursor"]
    assert [path for page in pages for path in paths(page)] == ALL
    assert "truncated" not in exact
    assert (sdk.json["truncated"], sdk.json["next_cursor"]) == (True, first["next_cursor"])


async def test_a_listing_that_fits_exactly_is_not_truncated(
    root: Path, resolver: ResolverName
) -> None:
    plant(root, TREE)
    changes = {"limits": {"list_entries": len(ALL)}, **resolved_by(resolver)}
    async with running(root, changes) as gateway:
        body = (await gateway.files("recursive=1")).json
        page = (await gateway.files(f"recursive=1&limit={len(ALL)}")).json

    assert set(body) == set(page) == {"session_id", "path", "files"}


async def test_links_are_marked(gateway: Gateway, root: Path) -> None:
    plant(
        root,
        {
            "s1/d/f": b"123",
            "s1/in": "d/f",
            "s1/in-dir": "d",
            "s1/out": "/etc/passwd",
            "s1/nowhere": "missing",
            "s1/loop": "loop",
        },
    )

    shown = {e["name"]: e for e in (await gateway.files("recursive=1")).json["files"]}

    assert set(shown) == {"d", "f", "in", "in-dir", "out", "nowhere", "loop"}
    links = {name: entry for name, entry in shown.items() if entry.get("is_symlink")}
    assert {n: (e["size"], e["is_dir"]) for n, e in links.items()} == {
        "in": (3, False),
        "in-dir": (0, True),
        "out": (0, False),
        "nowhere": (0, False),
        "loop": (0, False),
    }
    assert "is_symlink" not in shown["d"]


async def test_the_depth_limit_is_said_aloud(root: Path, resolver: ResolverName) -> None:
    """Never a silently shorter result."""
    plant(root, {"s1/a/b/c/d/e": b"", "s1/x/y": b""})
    changes = {"limits": {"depth": 3}, **resolved_by(resolver)}
    async with running(root, changes) as gateway:
        body = (await gateway.files("recursive=1")).json
        below = (await gateway.files("recursive=1&path=a/b/c")).json
        asked = (await gateway.files("depth=2")).json
        too_much = await gateway.files("depth=4")

    assert paths(body) == ["/a", "/a/b", "/a/b/c", "/x", "/x/y"]
    assert [e["path"] for e in body["files"] if "error" in e] == ["/a/b/c"]
    assert body["truncated"] is True
    assert paths(below) == ["/a/b/c/d", "/a/b/c/d/e"]
    assert "truncated" not in asked
    assert too_much.status == 400


STRANGE = [
    *(b"a..b", b"..a", b"...", b"-rf", b" ", b"a b", b"a\nb", b"a\rb", b"a\tb", b'"', b"'", b"\\"),
    *(b"a%2fb", b"%", b"a?b", b"a#b", b"a;b", b"&", b"=", b"+", b"*", b"[x]", b"{x}", b"<x>", b"|"),
    *("é".encode(), "e\u0301".encode(), "日本".encode(), "\U0001f600".encode(), b"\x01", b"\x7f"),
    *("\u202e".encode(), "\u2028".encode(), "\ufeff".encode(), b"x" * 255, b"\xff" * 255),
    *(b"\xff", b"\xc3", b"\xc3\x28", b"caf\xe9", b"\x80\xbf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"),
    *(b"\xc0\xae\xc0\xae", "\uef80".encode(), "\uefff".encode(), "\uefae\uefae".encode()),
    *("\uef80".encode() + b"\xff", b"\xee\xbe", b"\xee\xbe\x80\xee", "\uffff".encode(), b"\xee"),
]


async def test_every_listed_path_fetches_its_file(gateway: Gateway, root: Path) -> None:
    """Also of names that are not UTF-8: JSON cannot hold them, and yet must name them."""
    directory = os.fsencode(root / "s1")
    for number, name in enumerate(STRANGE):
        plant(root, {b"s1/" + name: b"%d" % number, b"s1/in/" + name + b"/f": b"%d." % number})

    answer = await gateway.files("recursive=1")

    listed = answer.json["files"]  # which is valid UTF-8, or orjson would not read it
    files = [entry for entry in listed if not entry["is_dir"]]
    assert len(files) == 2 * len(STRANGE)
    assert len({entry["path"] for entry in listed}) == len(listed)
    found = set()
    for entry in files:
        assert entry["path"].rpartition("/")[2] == entry["name"]
        downloaded = await gateway.file(quote(entry["path"][1:], safe="/"))
        assert downloaded.status == 200, entry
        assert len(downloaded.body) == entry["size"]
        found.add(downloaded.body)
    assert len(found) == 2 * len(STRANGE)
    for name in STRANGE:
        assert os.path.isfile(directory + b"/" + name)
    for entry in listed:
        if entry["is_dir"] and entry["path"] != "/in":
            below = await gateway.files("path=" + quote(entry["path"][1:], safe=""))
            assert paths(below.json) == [entry["path"] + "/f"]


async def test_a_listed_path_may_be_long_because_of_its_bytes(gateway: Gateway, root: Path) -> None:
    """A byte that is not text is written as three: the limit is the file's own path, 4095."""
    name = b"/".join([b"\xff" * 250] * 7) + b"/end"
    plant(root, {b"s1/" + name: b"content"})

    listed = paths((await gateway.files("recursive=1")).json)
    answer = await gateway.file(quote(listed[-1][1:], safe="/"))

    assert (answer.status, answer.body) == (200, b"content")


async def test_names_sort_as_bytes(gateway: Gateway, root: Path) -> None:
    names = [b"A", b"B", b"Z", b"a", b"a-", b"a.", b"a0", b"aa", "é".encode(), b"\xff"]
    plant(root, {b"s1/" + name: b"" for name in names})

    shown = [entry["name"] for entry in (await gateway.files()).json["files"]]

    assert shown[:-1] == [name.decode() for name in names[:-1]]


@pytest.mark.parametrize(
    ("mtime", "shown"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (-1, "1969-12-31T23:59:59Z"),
        (7258118400, "2200-01-01T00:00:00Z"),
        (1.999999999, "1970-01-01T00:00:01Z"),
        (-0.5, "1969-12-31T23:59:59Z"),
        (884541513600, "9999-12-31T23:59:59Z"),  # in the year 30000
        (-62135596800 - 86400, "0001-01-01T00:00:00Z"),
    ],
)
async def test_any_time_has_a_name(gateway: Gateway, root: Path, mtime: float, shown: str) -> None:
    """Row 27; file systems differ in which they can hold."""
    plant(root, {"s1/f": b"content"})
    wanted_ns = int(mtime * 10**9)
    os.utime(root / "s1/f", ns=(0, wanted_ns))
    held_ns = (root / "s1/f").stat().st_mtime_ns

    (entry,) = (await gateway.files()).json["files"]
    downloaded = await gateway.file("f")

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", entry["modified_at"])
    if held_ns == wanted_ns:
        assert entry["modified_at"] == shown
    else:
        seconds = max(-62135596800, min(held_ns // 10**9, 253402300799))
        assert datetime.fromisoformat(entry["modified_at"]) == datetime.fromtimestamp(seconds, UTC)
    assert downloaded.status == 200
    assert re.fullmatch(
        r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", downloaded.header("Last-Modified") or ""
    )


async def test_an_empty_directory(gateway: Gateway, root: Path) -> None:
    (root / "s1/empty").mkdir()

    answers = [await gateway.files("path=empty"), await gateway.files("path=empty&recursive=1")]

    for answer in answers:
        assert answer.body == b'{"session_id":"s1","path":"/empty","files":[]}'


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("path=zlast", 400, "not a directory"),
        ("path=zlast/", 400, "not a directory"),
        ("path=zlast/x", 400, "not a directory"),
        ("path=missing", 404, "file not found"),
        ("path=output/missing/x", 404, "file not found"),
    ],
)
async def test_what_is_no_directory(
    gateway: Gateway, root: Path, query: str, status: int, message: str
) -> None:
    plant(root, TREE)

    answer = await gateway.files(query)

    assert (answer.status, answer.json) == (status, {"error": message})


async def test_head_of_a_listing(gateway: Gateway, root: Path) -> None:
    plant(root, TREE)
    got = await gateway.files("recursive=1")

    asked = await gateway.files("recursive=1", method="HEAD")

    kept = [(k, v) for k, v in got.headers if k not in ("Date", "X-Request-ID")]
    assert [(k, v) for k, v in asked.headers if k not in ("Date", "X-Request-ID")] == kept
    assert (asked.status, asked.body) == (200, b"")
    assert (await gateway.files("path=zlast", method="HEAD")).status == 400


@pytest.mark.parametrize("raw", ["a%2Bb", "a+b", "a%20b"])
async def test_a_plus_in_a_query_is_a_space(gateway: Gateway, root: Path, raw: str) -> None:
    """As forms write it, and as every HTTP library does."""
    plant(root, {"s1/a b/1": b"", "s1/a+b/2": b""})

    shown = paths((await gateway.files(f"path={raw}")).json)

    assert shown == (["/a+b/2"] if raw == "a%2Bb" else ["/a b/1"])


@pytest.fixture(scope="module")
def crowded() -> Iterator[Path]:
    """A workspace of 200,000 entries, in memory where that is possible: disks take a minute."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        root = Path(name) / "workspaces"
        (root / "s1").mkdir(parents=True)
        here = os.open(root / "s1", os.O_PATH)
        for number in range(200_000):
            os.mknod(f"{number:06}", dir_fd=here)
        os.close(here)
        yield root


async def test_200_000_entries_hold_nobody_up(
    tmp_path: Path, crowded: Path, resolver: ResolverName
) -> None:
    """Row 25: the answer is bounded, and other requests do not wait for it.

    The gateway is a process of its own, and the client a thread: only the gateway's lag counts. It
    is the best of three, because a busy machine delays everybody now and then.
    """
    lags = []
    with command(tmp_path, crowded, resolved_by(resolver)) as process:
        gateway = Gateway(process.port, 0)
        for _ in range(3):
            listing = asyncio.create_task(asyncio.to_thread(_fetch, process.port))
            lags.append(await slowest_liveness(gateway, listing.done))
            first = orjson.loads(await listing)
            if lags[-1] < 0.2:
                break
        second = (await gateway.files(f"cursor={first['next_cursor']}")).json

    assert min(lags) < 0.2
    assert len(first["files"]) == 100_000
    assert first["truncated"] is True
    assert [e["name"] for e in second["files"]] == [f"{n:06}" for n in range(100_000, 200_000)]
    assert "next_cursor" not in second


def _fetch(port: int) -> bytes:
    """The listing, by a client that costs this process little; HTTP/1.0 has no chunks to parse."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(head("/api/v1/sessions/s1/files", AUTH, version="1.0"))
        return b"".join(iter(lambda: sock.recv(1 << 20), b"")).partition(b"\r\n\r\n")[2]


@pytest.fixture
def broad() -> Iterator[Path]:
    """A workspace of 100,000 files in 1,000 directories, of which `a` has a tenth."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        root = Path(name) / "workspaces"
        for number in range(1000):
            directory = root / "s1" / ("a" if number < 100 else "b") / f"{number:03}"
            directory.mkdir(parents=True)
            here = os.open(directory, os.O_PATH)
            for file in range(100):
                os.mknod(f"{file:02}", dir_fd=here)
            os.close(here)
        yield root


async def test_a_large_tree_is_sent_while_it_is_walked(
    tmp_path: Path, broad: Path, resolver: ResolverName
) -> None:
    """Of a reader who has the first byte, and waits, the walk is not at its end; and a tree that is
    ten times as large takes no more memory.
    """
    changes = {"limits": {"list_entries": 200_000}, **resolved_by(resolver)}
    clients = Clients()
    with command(tmp_path, broad, changes) as process:
        tenth = await Gateway(process.port, 0).files("path=a&recursive=true")
        before = process.peak()

        reader = await clients.slow(process.port, "/api/v1/sessions/s1/files?recursive=true")
        assert await reader.reader.readexactly(1) == b"H"
        (broad / "s1/b/999/late").touch()
        listed = paths((await reader.answer()).json)
        growth = process.peak() - before
        await clients.leave()

    assert len(tenth.json["files"]) == 10_100
    assert len(listed) == 101_003
    assert listed[-1] == "/b/999/late"
    assert growth < 8 << 20


async def test_a_listing_goes_on_while_the_tree_changes(gateway: Gateway, root: Path) -> None:
    """Entries come and go; what stays all the time is listed once."""
    plant(root, {f"s1/d{n}/stays": b"" for n in range(50)})
    stop = asyncio.Event()

    async def churn() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            path = root / f"s1/d{number % 50}/comes"
            path.mkdir(exist_ok=True)
            path.rmdir()
            await asyncio.sleep(0)

    churning = asyncio.create_task(churn())
    try:
        for _ in range(20):
            listed = paths((await gateway.files("recursive=1")).json)
            assert sum(path.endswith("/stays") for path in listed) == 50
    finally:
        stop.set()
        await churning
