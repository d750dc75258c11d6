"""Row 16 of the hostile cases: a process that swaps directories for links while we open."""

import asyncio
import io
import os
import random
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.domain.errors import GatewayError, PathNotFound, PathRefused
from gateway.domain.model import Kind
from gateway.domain.paths import WorkspacePath
from gateway.system.resolver import Resolver, choose, open_file
from tests import gateways
from tests.contract.asking import asked, members_of
from tests.unit.executors.local.rig import OUTSIDE, RESOLVERS, Place, listed, outcome, running
from tests.wire import Wire

OPENS = 20_000
REQUESTS, CLIENTS = 20_000, 4
LARGE = 300_000  # beyond what is sent in one go
WALKS = 100
ARCHIVES = 200
INSIDE = b"inside"
LEAVES = (PathRefused, "invalid path: symbolic link leaves the workspace")
MISSING = (PathNotFound, "file not found")

ATTACKER = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
here = os.open(sys.argv[1], os.O_RDONLY)
pairs = [(os.fsencode(a), os.fsencode(b)) for a, b in zip(sys.argv[2::2], sys.argv[3::2])]
def swap():
    for one, other in pairs:
        if libc.renameat2(here, one, here, other, 2) != 0:  # RENAME_EXCHANGE
            raise OSError(ctypes.get_errno(), "renameat2")
swap()
print("swapping", flush=True)
while True:
    swap()
"""


@contextmanager
def attacker(place: Place, *names: str) -> Iterator[None]:
    with subprocess.Popen(
        [sys.executable, "-c", ATTACKER, place.session, *names], stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"swapping\n"
            yield
            assert process.poll() is None
        finally:
            process.kill()


def opened(resolver: Resolver, session: int, parts: Sequence[bytes]) -> object:
    """The content, or the class and message of the verdict."""
    try:
        fd, found = open_file(resolver, session, parts)
        content = os.pread(fd, found.st_size, 0)
        os.close(fd)
    except GatewayError as exc:
        return type(exc), exc.message
    return content


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    (place.outside / "e").mkdir()
    (place.outside / "e" / "f").write_bytes(OUTSIDE)
    place.file("d/f", INSIDE)
    place.file("d/e/f", INSIDE)
    place.link("l", "../../outside")
    place.link("absolute", str(place.outside))
    place.file("x", INSIDE)
    place.link("file-link", "../../outside/f")
    place.link("up", "d/e/../../d/e/f")
    return place


TARGETS = ("d/f", "l/f", "d/e/f", "x", "up")
# Each has a tree of its own: through a `d` left behind as a link, the attacker, who is root here,
# would move `outside/e` itself into the workspace.
SWAPS = [("d", "l"), ("d", "absolute"), ("x", "file-link"), ("d/e", "l")]


@pytest.mark.parametrize("resolver", RESOLVERS)
@pytest.mark.parametrize("swap", SWAPS)
async def test_no_download_gives_a_byte_from_outside(
    place: Place, resolver: str, swap: tuple[str, str]
) -> None:
    seen: Counter[object] = Counter()
    async with running(place, resolver) as executor:
        with attacker(place, *swap):
            for number in range(OPENS // len(SWAPS)):
                seen[await outcome(executor, TARGETS[number % len(TARGETS)])] += 1

    assert set(seen) <= {INSIDE, LEAVES, MISSING}
    assert seen[INSIDE]
    assert seen[LEAVES]


@pytest.mark.parametrize("resolver", RESOLVERS)
def test_no_open_in_the_pool_gives_a_byte_from_outside(place: Place, resolver: str) -> None:
    """The executor opens inline what is in memory; this is the other way."""
    seen: Counter[object] = Counter()
    chosen = choose(resolver, None)
    session = os.open(place.session, os.O_PATH)
    with attacker(place, "d", "l", "x", "file-link"):
        for number in range(OPENS):
            parts = tuple(TARGETS[number % len(TARGETS)].encode().split(b"/"))
            seen[opened(chosen, session, parts)] += 1
    os.close(session)

    assert set(seen) <= {INSIDE, LEAVES, MISSING}
    assert seen[INSIDE]
    assert seen[LEAVES]


@pytest.mark.parametrize("resolver", RESOLVERS)
async def test_no_walk_goes_outside(place: Place, resolver: str) -> None:
    (place.outside / "secret-name").write_bytes(OUTSIDE)
    for number in range(30):
        place.file(f"d/e/{number}/f", INSIDE)
    names: set[bytes] = set()
    sizes: set[int | None] = set()
    async with running(place, resolver) as executor:
        with attacker(place, "d", "l", "x", "file-link"):
            for _ in range(WALKS):
                for entry in await listed(executor):
                    names.update(entry.path.parts)
                    if entry.kind is Kind.FILE:
                        sizes.add(entry.size)

    assert b"secret-name" not in names
    assert sizes == {len(INSIDE)}


@pytest.mark.parametrize("resolver", RESOLVERS)
async def test_no_archive_has_a_byte_from_outside(place: Place, resolver: str) -> None:
    """Neither by what the executor opens, nor by what another process finds by itself."""
    (place.outside / "secret-name").write_bytes(OUTSIDE)
    seen: Counter[object] = Counter()
    names: set[bytes] = set()
    chosen = choose(resolver, None)
    async with running(place, resolver) as executor:
        with attacker(place, "d", "l", "x", "file-link"):
            for _ in range(ARCHIVES):
                async with members_of(executor, "s1", asked()) as members:
                    assert members.bodies is not None
                    session = members.bodies.descriptor
                    for member in members.members:
                        names.update(member.parts)
                        if not member.is_directory:
                            path = b"/".join(member.parts)
                            seen[await outcome(executor, path)] += 1
                            seen[opened(chosen, session, member.parts)] += 1

    assert b"secret-name" not in names
    assert set(seen) <= {INSIDE, LEAVES, MISSING}
    assert seen[INSIDE]


@pytest.mark.parametrize("resolver", RESOLVERS)
async def test_a_session_that_is_swapped_for_a_link_is_no_session(
    place: Place, resolver: str
) -> None:
    """The root belongs to the operator; a link in it is still not followed."""
    place.session.rename(place.root / "real")
    (place.root / "s1").symlink_to(place.outside)
    async with running(place, resolver) as executor:
        got = [await outcome(executor, "f") for _ in range(2)]
        with pytest.raises(GatewayError):
            async with executor.walk("s1", WorkspacePath(), depth=1):
                pass

    assert [type_.__name__ for type_, _ in got] == ["SessionNotFound"] * 2


@pytest.mark.parametrize("resolver", RESOLVERS)
async def test_no_request_gets_a_byte_from_outside(place: Place, resolver: str) -> None:
    """As many requests of the server: small and large files, ranges, listings, whole and below."""
    inside, outside = b"i" * LARGE, b"o" * LARGE
    place.file("d/large", inside)
    (place.outside / "large").write_bytes(outside)
    (place.outside / "secret-name").write_bytes(OUTSIDE)
    files = "/api/v1/sessions/s1/files"
    targets = [
        *(f"{files}/{name}" for name in (*TARGETS, "file-link", "d/large", "l/large")),
        *(f"{files}/{name}" for name in ("d/secret-name", "l/secret-name")),
        *(f"{files}{query}" for query in ("", "?recursive=1", "?path=d", "?path=l&recursive=1")),
    ]
    seen: Counter[tuple[int, str]] = Counter()

    async def client(port: int, first: int) -> None:
        async with await Wire.connect(port) as wire:
            for number in range(first, REQUESTS, CLIENTS):
                target = targets[number % len(targets)]
                lines = ("Range: bytes=1-",) if number % 3 == 0 else ()
                answer = await wire.ask(target, gateways.AUTH, *lines)
                assert answer.complete
                assert OUTSIDE[1:] not in answer.body
                assert b"oooo" not in answer.body
                assert b"secret-name" not in answer.body
                seen[answer.status, target.removeprefix(files)] += 1

    async with gateways.running(place.root, gateways.resolved_by(resolver)) as gateway:
        with attacker(place, "d", "l", "x", "file-link"):
            await asyncio.gather(*(client(gateway.port, first) for first in range(CLIENTS)))

    assert seen.total() == REQUESTS
    assert {status for status, _ in seen} <= {200, 206, 400, 404}
    for name in ("/d/f", "/l/f", "/x", "/file-link", "/d/large", "/l/large"):
        assert seen[200, name]
        assert seen[206, name]
        assert seen[400, name]
    assert seen[200, "?path=d"]
    assert seen[400, "?path=d"]


@pytest.mark.parametrize("resolver", RESOLVERS)
async def test_no_archive_that_is_sent_has_a_byte_from_outside(place: Place, resolver: str) -> None:
    """Whole, broken, or refused for the moment; what looks whole is whole."""
    inside, outside = random.Random(1).randbytes(LARGE), random.Random(2).randbytes(LARGE)
    for number in range(30):
        place.file(f"d/e/{number}/f", INSIDE)
    place.file("d/large", inside)
    (place.outside / "large").write_bytes(outside)
    (place.outside / "secret-name").write_bytes(OUTSIDE)
    forms = ("zip", "tar", "zip&stored=true", "tar.gz")
    key = gateways.key_entry(scopes=["archives:read"])
    changes = {**gateways.resolved_by(resolver), "auth": {"keys": [key]}}
    seen: Counter[tuple[int, bool]] = Counter()
    async with gateways.running(place.root, changes) as gateway:
        with attacker(place, "d", "l", "x", "file-link"):
            for number in range(ARCHIVES):
                form = forms[number % len(forms)]
                answer = await gateway.ask(f"/api/v1/sessions/s1/archive?format={form}")
                seen[answer.status, answer.complete] += 1
                for never in (OUTSIDE, outside[5000:5040], b"secret-name"):
                    assert never not in answer.body
                if (answer.status, answer.complete) == (200, True):
                    assert set(packed_in(answer.body, form).values()) <= {INSIDE, inside}

        calm = await gateway.ask("/api/v1/sessions/s1/archive?format=zip")

    assert set(seen) <= {(200, True), (200, False), (503, True)}
    assert (calm.status, calm.complete) == (200, True)
    assert set(packed_in(calm.body, "zip").values()) <= {INSIDE, inside}


def packed_in(archive: bytes, form: str) -> dict[str, bytes]:
    """The files in an archive; the tools check that it is whole."""
    if form.startswith("zip"):
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            return {name: opened.read(name) for name in opened.namelist() if name[-1] != "/"}
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        files = {member.name: packed.extractfile(member) for member in packed if member.isfile()}
        return {name: file.read() for name, file in files.items() if file is not None}
