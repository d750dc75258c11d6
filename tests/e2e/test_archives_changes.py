"""Files that change while they are packed: a right archive, or one that is visibly broken."""

import asyncio
import io
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import needs
from tests.e2e.archiving import ARCHIVE, BLACKBOX, MB, ask, builds, packing, text, unpacked
from tests.e2e.halting import halted
from tests.e2e.operating import Clients, log_of, logged
from tests.e2e.sidecars import sidecar
from tests.gateways import Process, command, plant, resolved_by
from tests.wire import Answer

OTHER = b"other" * MB
LAST = text(3)
OUTSIDE = b"outside the workspaces"
TARGETS = [f"/api/v1/sessions/{{}}/archive?format={form}" for form in ("zip", "tar.gz")]


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


def _fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _lead(directory: Path, target: str) -> None:
    directory.rename(directory.with_name("was"))
    directory.symlink_to(target)


BREAKING: dict[str, Callable[[Path], None]] = {
    "shrinks": lambda file: os.truncate(file, MB),
    "vanishes": lambda file: file.unlink(),
    "is replaced": _replace,
    "is overwritten": _overwrite,
    "becomes a link": _link,
    "becomes a FIFO": _fifo,
    "its directory becomes a link": lambda file: _lead(file.parent, "../../outside"),
}
KEEPING: dict[str, Callable[[Path], None]] = {
    "grows": _grow,
    "its directory is moved, with a link to it": lambda file: _lead(file.parent, "was"),
}


@dataclass(frozen=True)
class Maker:
    """A gateway, and the one that makes its archives, if that is another."""

    process: Process
    other: Process | None = None

    async def asked(
        self, workspace: Path, change: Callable[[Path], None], targets: Sequence[str] = TARGETS
    ) -> list[Answer]:
        """Archives of a workspace whose last file, `z/last`, is changed after they were begun."""
        plant(workspace, {"a": b"a", "z/last": LAST})
        maker = self.other or self.process
        before = len(log_of(maker, "audit.archive"))
        async with halted(maker.popen.pid):
            asking = [
                asyncio.create_task(ask(self.process, target.format(workspace.name)))
                for target in targets
            ]
            await logged(maker, "audit.archive", before + len(asking))
            change(workspace / "z" / "last")
        return await asyncio.gather(*asking)


@pytest.fixture(params=["openat2", "components", "straight", "sidecar"])
def maker(request: pytest.FixtureRequest, tmp_path: Path, root: Path) -> Iterator[Maker]:
    """Each of the resolvers, without a spool, and next to the files."""
    plant(tmp_path, {"outside/last": OUTSIDE * MB, "secret": OUTSIDE})
    with ExitStack() as stack:
        if request.param == "sidecar":
            edge = stack.enter_context(sidecar(tmp_path, root))
            process = stack.enter_context(command(tmp_path, root, packing(edge.executor())))
            yield Maker(process, edge.process)
            return
        changes = {"spool": {"bytes": 0}}
        if request.param != "straight":
            changes = resolved_by(request.param)
        if request.param == "openat2":
            needs.openat2()
        yield Maker(stack.enter_context(command(tmp_path, root, packing(changes))))


def last_of(answer: Answer) -> bytes | None:
    """What `z/last` is in an archive; None if it is not there."""
    if answer.body.startswith(b"PK"):
        return unpacked(answer.body).get("z/last")
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as archive:
        names = [member.name for member in archive if member.isfile()]
        last = archive.extractfile("z/last") if "z/last" in names else None
        return None if last is None else last.read()


def content(file: Path) -> bytes | None:
    """What is there now, if it is a file and none of the ways there is a link."""
    is_file = file.resolve() == file and file.is_file()
    return file.read_bytes() if is_file else None


async def test_a_change_breaks_the_archive_visibly(maker: Maker, root: Path) -> None:
    """What was at no time the workspace is never completed, in no format.

    Of who was told nothing yet a gateway before a sidecar asks again.
    """
    for number, (name, change) in enumerate(BREAKING.items()):
        for answer in await maker.asked(root / f"{number}", change):
            assert OUTSIDE not in answer.body
            if answer.complete and answer.status == 200:
                assert maker.other is not None, name
                assert last_of(answer) == content(root / f"{number}" / "z" / "last"), name
            else:
                assert answer.status in (200, 502, 503), name
    assert await builds(maker.process) == 0
    assert (await ask(maker.process)).complete


async def test_what_is_only_added_breaks_nothing(maker: Maker, root: Path) -> None:
    """An archive of a file that grows has what it was when the archive was begun."""
    for number, (name, change) in enumerate(KEEPING.items()):
        for answer in await maker.asked(root / f"{number}", change):
            assert (answer.status, answer.complete) == (200, True), name
            assert last_of(answer) == LAST, name


async def test_who_was_told_nothing_yet_is_told_to_come_back(tmp_path: Path, root: Path) -> None:
    """Where the length comes first. Then the workspace may be at rest."""
    with command(tmp_path, root, packing()) as process:
        target = BLACKBOX.replace("s1", "{}")
        (answer,) = await Maker(process).asked(root / "s2", BREAKING["shrinks"], [target])

        assert (answer.status, answer.header("Retry-After")) == (503, "1")
        assert answer.json == {"error": "the workspace changed while the archive was made"}
        assert last_of(await ask(process, target.format("s2"))) == LAST[:MB]


async def test_an_executor_that_dies_breaks_the_archive(
    tmp_path: Path, root: Path, clients: Clients
) -> None:
    """Visibly; and who asks afterwards, or was told nothing yet, gets an error."""
    plant(root / "s1", {"last": LAST})
    begun = ARCHIVE + "?format=tar.gz"  # whose first bytes are the same for all
    with (
        sidecar(tmp_path, root) as edge,
        command(tmp_path, root, packing(edge.executor())) as process,
    ):
        async with halted(edge.popen.pid):
            reader = await clients.slow(process.port, begun)
            waiting = asyncio.create_task(ask(process, BLACKBOX))
            assert b" 200 " in await reader.reader.readuntil(b"\r\n\r\n")
            await logged(edge.process, "audit.archive", 2)
            edge.kill()

            assert (await reader.rest(20))[1] == "reset"
            assert (await waiting).status == 502
            assert (await ask(process)).status == 502
