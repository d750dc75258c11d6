"""Archives of a backend that fails: all that lies there, or an outage before a byte has left."""

import gzip
import io
import os
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.domain.archives import ArchiveBounds
from gateway.domain.errors import (
    AuthRejected,
    GatewayError,
    Outage,
    ProtocolFault,
    TimedOut,
    TooLarge,
    Unavailable,
    Unreachable,
    Unsupported,
)
from gateway.executors.base import Executor
from gateway.executors.guarded import Guarded
from gateway.executors.registry import executor_class
from gateway.executors.streams import (
    Members,
)
from tests import gateways
from tests.doubles import fault_proxy, faults, file_api
from tests.doubles.fault_proxy import Answer, Fault
from tests.faults import stage
from tests.faults.stage import FILES, HASTY, PATIENT, Times
from tests.faults.subjects import SUBJECTS, Subject
from tests.gateways import plant
from tests.unit.executors.engines.tars import END, Given, held, member, packed

BOUNDS = ArchiveBounds(entries=100, bytes=2_000_000, file=1_000_000, depth=9)
ADMITTED = {"auth": {"keys": [gateways.key_entry(scopes=["archives:read"])]}}


@dataclass(frozen=True)
class Packer:
    """A subject whose backend makes archives, with *more* in its profile."""

    subject: Subject
    more: str = ""

    def section(self, tmp: Path, url: str, times: Times) -> dict[str, Any]:
        section = dict(self.subject.section(tmp, url))
        if self.more:
            (tmp / "profile.yaml").write_text(file_api.PROFILE + self.more)
        return {**section, "timeout": times.executor}


PACKERS = {
    "tar": Packer(SUBJECTS["http_profile"], file_api.TAR),
    "tar.gz": Packer(SUBJECTS["http_profile"], file_api.TAR_GZ),
    "firecracker": Packer(SUBJECTS["firecracker"]),
}


@dataclass(frozen=True)
class Stage:
    executor: Executor
    proxy: fault_proxy.FaultProxy

    async def archive(self) -> Given:
        async with self.executor.archive("s1", packed(BOUNDS)) as members:
            assert isinstance(members, Members)
            return await held(members)


@asynccontextmanager
async def staged(
    packer: Packer, tmp: Path, port: int | None = None, times: Times = PATIENT
) -> AsyncIterator[Stage]:
    """The executor, whose backend is behind the proxy, or at another *port*."""
    plant(tmp / "remote" / "s1", FILES)
    async with (
        packer.subject.backend(tmp / "remote") as backend,
        fault_proxy.running(backend) as proxy,
    ):
        section = packer.section(tmp, f"http://127.0.0.1:{port or proxy.port}", times)
        kind = executor_class(section["type"])
        config = kind.Config.model_validate(section)
        async with kind.running("remote", config) as executor:
            yield Stage(Guarded(executor, config, BOUNDS.file), proxy)


@pytest.fixture(params=PACKERS)
def packer(request: pytest.FixtureRequest) -> Packer:
    return PACKERS[request.param]


def of_body(change: Callable[[bytes], bytes]) -> Fault:
    """Send another body, well framed."""
    return faults.changed(lambda answer: answer.with_body(change(answer.body)))


BROKEN: dict[str, tuple[Fault, type[GatewayError]]] = {
    "hangs up": (faults.hang_up, Unavailable),
    "resets": (faults.reset, Unavailable),
    "nothing": (faults.body(b""), ProtocolFault),
    "HTML": (faults.body(b"<html>not this</html>" * 99), ProtocolFault),
    "zeros": (faults.declared(3_000_000), ProtocolFault),
    "zeros without end": (faults.for_ever(b"HTTP/1.1 200 OK\r\n\r\n", bytes(9999)), ProtocolFault),
    "a second answer": (of_body(lambda body: body * 2), ProtocolFault),
    "more": (of_body(lambda body: body + b"more"), ProtocolFault),
    "more zeros than there may be": (faults.endless_chunks(), ProtocolFault),
    "content without end": (faults.endless_chunks(b"x" * 65536), ProtocolFault),
    "in an encoding": (faults.bomb("gzip", 1 << 24), ProtocolFault),
    "a length that is too long": (faults.length(lambda n: n + 1), ProtocolFault),
    "a length that is too short": (faults.length(lambda n: n - 1), ProtocolFault),
    "no length": (faults.framed(), ProtocolFault),
    "500": (faults.status("500 Oops"), Unavailable),
    "401": (faults.status("401 No"), AuthRejected),
    "302": (faults.status("302 There", "Location: /"), ProtocolFault),
    **{
        f"{'reset' if by_reset else 'cut'} at {share}": (
            faults.cut(share, by_reset=by_reset),
            ProtocolFault,
        )
        for share in (0.0, 0.01, 0.5, 0.999)
        for by_reset in (False, True)
    },
    "silent": (faults.silent, TimedOut),
    **{f"silent from {share}": (faults.stalled(share), TimedOut) for share in (0.0, 0.5, 0.999)},
}


@pytest.mark.parametrize(("fault", "expected"), BROKEN.values(), ids=BROKEN.keys())
async def test_what_is_not_whole_is_an_outage(packer, fault, expected, tmp_path):
    """And the next one is whole."""
    times = HASTY if expected is TimedOut else PATIENT
    async with staged(packer, tmp_path, times=times) as stage:
        stage.proxy.fault = fault
        with pytest.raises(Outage) as raised:
            await stage.archive()
        stage.proxy.fault = fault_proxy.honest
        found = await stage.archive()

    assert isinstance(raised.value, expected)
    assert {path: body for path, body in found.contents.items() if body is not None} == {
        os.fsencode(path): body for path, body in FILES.items()
    }


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.99, 0.999])
async def test_a_tar_that_was_cut_and_framed_well_is_a_fault(packer, share, tmp_path):
    """As Docker does it: the end of the body is no proof."""

    def cut(answer: Answer) -> Answer:
        end = int(share * len(answer.body))
        if not answer.body.startswith(b"{"):
            return answer.with_body(answer.body[: end - end % 512])
        said = orjson.loads(answer.body)
        text = said["stdout"][: int(share * len(said["stdout"])) & ~3]
        return answer.with_body(orjson.dumps({**said, "stdout": text}))

    async with staged(packer, tmp_path) as stage:
        stage.proxy.fault = faults.changed(cut)
        with pytest.raises(ProtocolFault):
            await stage.archive()


async def test_a_bomb_takes_no_room(tmp_path):
    async with staged(PACKERS["tar.gz"], tmp_path) as stage:
        for bomb in (bytes(1 << 26), member(b"s1/zeros", bytes(1 << 26)) + END):
            stage.proxy.fault = faults.body(gzip.compress(bomb))
            with pytest.raises((ProtocolFault, TooLarge, Unsupported)):
                await stage.archive()


async def test_what_comes_slowly_is_taken(packer, tmp_path):
    async with staged(packer, tmp_path) as stage:
        stage.proxy.fault = faults.late(0.2)

        assert len((await stage.archive()).members) == len(FILES) + 2


async def test_a_backend_that_nobody_reaches_is_an_outage(packer, tmp_path):
    with fault_proxy.refusing() as port:
        async with staged(packer, tmp_path, port) as stage:
            with pytest.raises(Unreachable):
                await stage.archive()


@pytest.mark.parametrize("fault", [None, faults.cut(0.5, by_reset=False)], ids=["whole", "cut"])
async def test_a_client_gets_the_whole_archive_from_whoever_has_it(fault, tmp_path):
    async with stage.staged(SUBJECTS["firecracker"], tmp_path, changes=ADMITTED) as both:
        both.proxy.fault = fault or fault_proxy.honest
        answer = await both.gateway.ask("/api/v1/sessions/s1/archive?format=zip")

    assert answer.header("X-Workspace-Source") == ("local" if fault else "remote")
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        found = {info.filename: archive.read(info) for info in archive.infolist()}
    assert {name: body for name, body in found.items() if not name.endswith("/")} == FILES
