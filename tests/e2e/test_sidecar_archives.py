"""Gateway, sidecar, files: the sidecar makes each archive once, and any part comes through both."""

import asyncio
import io
import os
import re
import tarfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.e2e.archiving import ARCHIVE, BLACKBOX, MB, SMALL, files_of, mixed, noise, unpacked
from tests.e2e.operating import eventually
from tests.e2e.sidecars import TOKEN, Sidecar, sidecar
from tests.gateways import AUTH, Gateway, key_entry, plant, running
from tests.wire import Answer, Wire, ask, head

KEYS = {"auth": {"keys": [key_entry(scopes=["files:read", "archives:read"])]}}
FILES = {**SMALL, "noise": noise(3), "log": b"line\n" * MB}
OWN = ("Date", "X-Request-ID", "X-Workspace-Source")


@pytest.fixture(scope="module")
def workspaces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant(tmp_path_factory.mktemp("there") / "workspaces" / "s1", FILES).parent


@pytest.fixture(scope="module")
def there(workspaces: Path) -> Iterator[Sidecar]:
    with sidecar(workspaces.parent, workspaces) as process:
        yield process


@asynccontextmanager
async def before(there: Sidecar, tmp: Path) -> AsyncIterator[Gateway]:
    async with running(tmp, {**there.executor(), **KEYS}) as gateway:
        yield gateway


@pytest.fixture
async def gateway(there: Sidecar, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with before(there, tmp_path) as running_gateway:
        yield running_gateway


async def at_the_source(there: Sidecar, target: str, *headers: str, **options: str) -> Answer:
    return await ask(str(there.path), target, f"Authorization: Bearer {TOKEN}", *headers, **options)


def fixed(answer: Answer) -> list[tuple[str, str]]:
    return [header for header in answer.headers if header[0] not in OWN]


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz"])
async def test_an_archive_is_the_same_through_both(
    gateway: Gateway, there: Sidecar, form: str
) -> None:
    target = f"{ARCHIVE}?format={form}"
    made = await at_the_source(there, target)  # and now its length is known

    answer = await gateway.ask(target)

    assert (answer.status, answer.complete) == (200, True)
    assert answer.body == made.body
    assert fixed(answer) == fixed(await at_the_source(there, target))
    assert answer.header("X-Workspace-Source") == "edge"
    assert fixed(await gateway.ask(target, method="HEAD")) == fixed(
        await at_the_source(there, target, method="HEAD")
    )


async def test_what_is_made_meanwhile_is_made_once(tmp_path: Path) -> None:
    """And what is asked for its end waits for that."""
    root = tmp_path / "workspaces"
    root.mkdir()
    mixed(root, 3, 10)
    with sidecar(tmp_path, root) as there:
        async with before(there, tmp_path) as gateway:
            async with await Wire.connect(gateway.port, limit=1 << 16) as client:
                await client.send(head(ARCHIVE, AUTH))
                await client.reader.readuntil(b"\r\n\r\n")
                parts = await asyncio.gather(
                    *(
                        gateway.ask(ARCHIVE, f"Range: bytes={n * MB}-{n * MB + 999}")
                        for n in range(5)
                    ),
                    gateway.ask(ARCHIVE, "Range: bytes=-22"),
                )
            whole = await gateway.ask(ARCHIVE)
        builds = [line["spool"] for line in there.logged("http_request") if line["method"] == "GET"]

    assert [part.status for part in parts] == [206] * 6
    for number, part in enumerate(parts[:5]):
        assert part.body == whole.body[number * MB : number * MB + 1000]
    assert parts[5].body == whole.body[-22:]
    assert builds.count("miss") == 1
    assert {*builds} <= {"miss", "follow", "hit"}


async def test_a_download_is_resumed_by_the_tag_of_the_source(
    gateway: Gateway, there: Sidecar
) -> None:
    whole = await at_the_source(there, ARCHIVE)
    tag, size = whole.header("ETag"), len(whole.body)

    for offset in (0, 1, 29, 30, size // 3, 2 * MB + 7, size - 22, size - 1):
        for condition in ([], [f"If-Range: {tag}"]):
            got = await gateway.ask(ARCHIVE, f"Range: bytes={offset}-", *condition)
            assert (got.status, got.header("ETag")) == (206, tag)
            assert got.header("Content-Range") == f"bytes {offset}-{size - 1}/{size}"
            assert got.body == whole.body[offset:]
    beyond = await gateway.ask(ARCHIVE, f"Range: bytes={size}-")
    assert (beyond.status, beyond.header("Content-Range")) == (416, f"bytes */{size}")
    several = await gateway.ask(ARCHIVE, "Range: bytes=0-9,-5")
    assert whole.body[:10] in several.body
    assert whole.body[-5:] in several.body


async def test_a_part_is_a_part_at_the_source(gateway: Gateway, there: Sidecar) -> None:
    await gateway.ask(ARCHIVE, "Range: bytes=5-104", "X-Request-ID: a-part")

    def asked() -> list[tuple[str, int]]:
        lines = [line for line in there.logged("http_request") if line["request_id"] == "a-part"]
        return [(line["method"], line["bytes_sent"]) for line in lines]

    await eventually(lambda: len(asked()) > 1)
    assert asked() == [("HEAD", 0), ("GET", 100)]


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("If-None-Match: {tag}", 304),
        ('If-None-Match: "x", W/{tag}', 304),
        ("If-None-Match: *", 304),
        ('If-Match: "x"', 412),
    ],
)
@pytest.mark.parametrize("target", [f"{ARCHIVE}?exclude=conditions", BLACKBOX + "?format=tar"])
async def test_conditions_cost_nothing_at_the_source(
    gateway: Gateway, there: Sidecar, target: str, line: str, status: int
) -> None:
    tag = (await gateway.ask(target, method="HEAD")).header("ETag")
    name = f"{line.split(':')[0]}-{status}-{len(line)}-{len(target)}"

    answer = await gateway.ask(target, line.format(tag=tag), f"X-Request-ID: {name}")

    assert (answer.status, answer.header("ETag")) == (status, tag if status == 304 else None)
    asked = there.request(name)
    assert (asked["method"], asked["status"]) == ("HEAD", 200)


async def test_a_resume_of_what_has_changed_begins_anew(gateway: Gateway, workspaces: Path) -> None:
    plant(workspaces, {"changing/f": b"first"})
    target = "/api/v1/sessions/changing/archive"
    tag = (await gateway.ask(target)).header("ETag")
    plant(workspaces, {"changing/f": b"second"})

    answer = await gateway.ask(target, "Range: bytes=5-", f"If-Range: {tag}")

    assert (answer.status, unpacked(answer.body)) == (200, {"f": b"second"})
    assert answer.header("ETag") != tag


async def test_a_length_is_told_where_it_has_to_be(gateway: Gateway, workspaces: Path) -> None:
    plant(workspaces, {"sized/f": b"f"})

    answer = await gateway.ask(BLACKBOX.replace("s1", "sized"))
    old = await gateway.ask("/api/v1/sessions/sized/archive?format=tar.gz", version="1.0")

    for one in (answer, old):
        assert (one.status, one.header("Content-Length")) == (200, str(len(one.body)))
    assert unpacked(answer.body) == {"f": b"f"}


async def test_its_own_ignores_are_looked_for_there(
    gateway: Gateway, there: Sidecar, workspaces: Path
) -> None:
    plant(workspaces, {"git/.gitignore": b"*.log\n", "git/a.log": b"", "git/d/a": b"a"})
    target = "/api/v1/sessions/git/archive?format=tar&path=d&path=&gitignore=true&exclude=d"

    answer = await gateway.ask(target, "X-Request-ID: ignores")

    with tarfile.open(fileobj=io.BytesIO(answer.body)) as archive:
        assert archive.getnames() == [".gitignore"]

    def routes() -> list[str]:
        lines = there.logged("http_request")
        return [line["route"] for line in lines if line["request_id"] == "ignores"]

    await eventually(routes)
    assert routes() == ["/api/v1/sessions/{session_id}/archive"]


async def test_a_refusal_is_the_same_through_both(
    gateway: Gateway, there: Sidecar, workspaces: Path
) -> None:
    """In words of the first: it looks itself for what is too large."""
    plant(workspaces, {"large/d/sparse": b"", "large/a": b""})
    os.truncate(workspaces / "large/d/sparse", (100 << 20) + 1)
    session = "/api/v1/sessions/large/archive"

    for target, status in [
        (session, 413),
        (f"{session}?exclude=sparse", 200),
        (f"{session}?path=none", 404),
        (f"{session}?path=a", 400),
        (f"{session}?format=rar", 400),
        ("/api/v1/sessions/nobody/archive", 404),
    ]:
        answer, source = await gateway.ask(target), await at_the_source(there, target)
        assert answer.status == source.status == status, target
        assert answer.header("X-Workspace-Verdict") == source.header("X-Workspace-Verdict")
        if status != 200:
            assert answer.body == source.body


async def test_a_sidecar_that_dies_breaks_the_download(tmp_path: Path) -> None:
    """Visibly; and when it is back, what is missing is added."""
    root = tmp_path / "workspaces"
    root.mkdir()
    mixed(root, 2, 10)
    async with AsyncExitStack() as stack:
        with sidecar(tmp_path, root) as there:
            gateway = await stack.enter_async_context(before(there, tmp_path))
            async with await Wire.connect(gateway.port, limit=1 << 16) as client:
                await client.send(head(ARCHIVE + "?stored=true", AUTH))
                said = await client.reader.readuntil(b"\r\n\r\n")
                begun = await client.reader.readexactly(MB)
                there.kill()
                more, end = await client.rest(20)
            down = await gateway.ask(ARCHIVE)
        there.path.unlink(missing_ok=True)
        begun += more
        assert (end, down.status) == ("reset", 502)
        assert MB <= len(begun) < 20 * MB

        tag = re.search(rb'ETag: ("[^"]+")', said)
        assert tag is not None
        with sidecar(tmp_path, root):
            rest = await gateway.ask(
                ARCHIVE + "?stored=true",
                f"Range: bytes={len(begun)}-",
                f"If-Range: {tag[1].decode()}",
            )
    assert rest.status == 206
    assert unpacked(begun + rest.body) == files_of(root)
