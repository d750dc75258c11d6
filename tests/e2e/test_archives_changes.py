"""Files that change while they are packed: a right archive, or one that is visibly broken."""

import asyncio
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.archiving import ARCHIVE, BLACKBOX, MB, ask, builds, mixed, packing, text, unpacked
from tests.e2e.operating import Clients, log_of, logged
from tests.e2e.sidecars import sidecar
from tests.gateways import Process, command, plant
from tests.wire import Answer

OTHER = b"other" * MB
LAST = text(3)
OUTSIDE = b"outside the workspaces"
FORMATS = ("zip", "tar.gz")
SPOOLS = {"spooled": "1GiB", "straight": "0"}


def _grow(file: Path) -> None:
    with file.open("ab") as log:
        log.write(OTHER)


def _replace(file: Path) -> None:
    file.with_suffix(".new").write_bytes(OTHER)
    file.with_suffix(".new").replace(file)


def _overwrite(file: Path) -> None:
    with file.open("r+b") as whole:
        whole.write(bytes(MB))


def _link(file: Path) -> None:
    file.unlink()
    file.symlink_to("../../secret")


BREAKING: dict[str, Callable[[Path], None]] = {
    "shrinks": lambda file: os.truncate(file, MB),
    "vanishes": lambda file: file.unlink(),
    "is replaced": _replace,
    "is overwritten": _overwrite,
    "becomes a link": _link,
    "becomes a FIFO": lambda file: (file.unlink(), os.mkfifo(file))[1],
    "its directory becomes a link": lambda file: (
        file.parent.rename(file.parent.with_name("was")),
        file.parent.symlink_to("../../outside"),
    )[1],
}
KEEPING: dict[str, Callable[[Path], None]] = {
    "grows": _grow,
    "its directory is moved, with a link to it": lambda file: (
        file.parent.rename(file.parent.with_name("was")),
        file.parent.symlink_to("was"),
    )[1],
}


@pytest.fixture(params=SPOOLS)
def process(request: pytest.FixtureRequest, tmp_path: Path, root: Path) -> Iterator[Process]:
    """A gateway, and beside its workspaces what none of their archives may have."""
    plant(tmp_path / "outside", {"last": OUTSIDE * MB})
    changes = packing({"spool": {"bytes": SPOOLS[request.param]}})
    with command(tmp_path, root, changes) as process:
        yield process


async def packed(process: Process, root: Path, change: Callable[[Path], None]) -> list[Answer]:
    """Archives of a workspace whose last file, `z/last`, is changed while they are made."""
    workspace = root / f"of{len(os.listdir(root))}"
    plant(workspace, {"a": b"a", "z/last": LAST})
    for number in range(2):
        with (workspace / f"sparse{number}").open("wb") as file:
            file.truncate(100 * MB)
    before = len(log_of(process, "audit.archive"))
    targets = [f"/api/v1/sessions/{workspace.name}/archive?format={form}" for form in FORMATS]
    asking = [asyncio.create_task(ask(process, target)) for target in targets]
    await logged(process, "audit.archive", before + len(asking))
    change(workspace / "z" / "last")
    return await asyncio.gather(*asking)


async def test_a_change_breaks_the_archive_visibly(process: Process, root: Path) -> None:
    """What was at no time the workspace is never completed, in no format."""
    for name, change in BREAKING.items():
        for answer in await packed(process, root, change):
            assert (name, answer.status, answer.complete) == (name, 200, False)
            assert OUTSIDE not in answer.body
    assert await builds(process) == 0
    assert (await ask(process)).complete


async def test_what_is_only_added_breaks_nothing(process: Process, root: Path) -> None:
    """An archive of a file that grows has what it was when the archive was begun."""
    for change in KEEPING.values():
        zipped, tarred = await packed(process, root, change)

        assert unpacked(zipped.body)["z/last"] == LAST
        with tarfile.open(fileobj=io.BytesIO(tarred.body)) as archive:
            last = archive.extractfile("z/last")
            assert last is not None
            assert last.read() == LAST


async def test_who_was_told_nothing_yet_is_told_to_come_back(process: Process, root: Path) -> None:
    """Where the length comes first. Then the workspace may be at rest."""
    plant(root / "s1", {"a": b"a", "z": LAST})
    with (root / "s1" / "sparse").open("wb") as file:
        file.truncate(100 * MB)
    asking = asyncio.create_task(ask(process, BLACKBOX))
    await logged(process, "audit.archive")
    os.truncate(root / "s1" / "z", MB)
    answer = await asking

    assert (answer.status, answer.header("Retry-After")) == (503, "1")
    assert answer.json == {"error": "the workspace changed while the archive was made"}
    assert unpacked((await ask(process, BLACKBOX)).body)["z"] == LAST[:MB]


@pytest.mark.parametrize("spool", SPOOLS)
async def test_an_executor_that_dies_breaks_the_archive(
    tmp_path: Path, root: Path, clients: Clients, spool: str
) -> None:
    """Visibly; and who asks afterwards, or was told nothing yet, gets an error."""
    mixed(root, 2, 60)
    with sidecar(tmp_path, root) as edge:
        changes = packing({**edge.executor(), "spool": {"bytes": SPOOLS[spool]}})
        with command(tmp_path, root, changes) as process:
            reader = await clients.slow(process.port, ARCHIVE)
            waiting = asyncio.create_task(ask(process, BLACKBOX))
            await logged(process, "audit.archive", 2)
            assert b" 200 " in await reader.reader.readuntil(b"\r\n\r\n")
            edge.kill()

            assert (await reader.rest(20))[1] == "reset"
            assert (await waiting).status == 502
            assert (await ask(process)).status == 502
