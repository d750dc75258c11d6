"""Archives that another gateway makes, and faults of it or the network: what the client gets.

The rows are those of files: an archive is a large one, whose beginning is sent before its end is
made.
"""

import io
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.doubles import fault_proxy, faults
from tests.doubles.fault_proxy import Fault
from tests.faults import stage
from tests.faults.stage import FILES, Stage
from tests.faults.subjects import SUBJECTS, TOKEN
from tests.faults.test_table import (
    BODIES,
    CONNECTIONS,
    HARMLESS,
    HEADS,
    OVERSIZED,
    STARTS,
    Body,
    Connection,
    Head,
    Start,
    assert_from_fallback,
    assert_refused,
)
from tests.faults.test_trust import EVIL, with_evil_headers
from tests.gateways import key_entry
from tests.wire import Answer, ask

CHANGES = {
    "auth": {"keys": [key_entry(scopes=["archives:read"])]},
    "limits": {"archive_bytes": "2MB", "archive_entries": 100},
}
OTHERWISE = {"404 of somebody else": "unsupported"}  # as a gateway that is older than archives


# A file's beginning has to come in its time; what is being made may come in drops.
DRIPS = {name: row for name, row in STARTS.items() if "second" in name}
BROKEN: dict[str, Body | Start] = {**BODIES, **DRIPS}
TARGET = "/api/v1/sessions/s1/archive?stored=true"


@dataclass(frozen=True)
class Archive:
    """The request, and whether an answer is all of it."""

    method: str = "GET"

    async def ask(self, stage: Stage, *headers: str) -> Answer:
        return await stage.gateway.ask(TARGET, *headers, method=self.method)

    def is_exact(self, answer: Answer) -> bool:
        if answer.status != 200 or not answer.complete:
            return False
        if self.method == "HEAD":
            return int(answer.header("Content-Length") or 0) > sum(map(len, FILES.values()))
        with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
            found = {info.filename: archive.read(info) for info in archive.infolist()}
        return {name: body for name, body in found.items() if name[-1] != "/"} == FILES


GET, HEAD = Archive(), Archive("HEAD")


@asynccontextmanager
async def staged(tmp: Path, fault: Fault = fault_proxy.honest, **more: Any) -> AsyncIterator[Stage]:
    """Both gateways, of which the other has made the archive before."""
    async with stage.staged(SUBJECTS["gateway"], tmp, changes=CHANGES, **more) as running:
        assert (await ask(running.proxy.port, TARGET, f"X-API-Key: {TOKEN}")).status == 200
        running.proxy.requests.clear()
        running.proxy.fault = fault
        yield running


def rows(rows: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", rows)


@rows(CONNECTIONS)
@pytest.mark.parametrize("archive", [GET, HEAD], ids=["GET", "HEAD"])
async def test_without_a_connection_the_fallback_makes_it(
    name: str, archive: Archive, tmp_path: Path
) -> None:
    row: Connection = CONNECTIONS[name]
    with row.place() as port:
        async with staged(tmp_path, url=f"http://{row.host}:{port}", times=row.times) as stage:
            answer = await archive.ask(stage)

    assert_from_fallback(archive, answer, row.code)


@rows(HEADS)
async def test_an_answer_that_is_none_is_made_up_for_by_the_fallback(
    name: str, tmp_path: Path
) -> None:
    row: Head = HEADS[name]
    async with staged(tmp_path, row.fault, times=row.times) as stage:
        answer = await GET.ask(stage)

    assert_from_fallback(GET, answer, OTHERWISE.get(name, row.code))


@rows(["reset instead of an answer", "404 of somebody else", "500", "gzip bomb"])
async def test_an_answer_that_is_none_without_a_local_copy_is_502(
    name: str, tmp_path: Path
) -> None:
    async with staged(tmp_path, HEADS[name].fault, local=False) as stage:
        answer = await GET.ask(stage)

    assert_refused(GET, answer)


@rows([name for name in STARTS if name not in DRIPS])
async def test_an_archive_without_a_first_byte_is_made_by_the_fallback(
    name: str, tmp_path: Path
) -> None:
    row = STARTS[name]
    async with staged(tmp_path, row.fault, times=row.times) as stage:
        answer = await GET.ask(stage)

    assert GET.is_exact(answer)
    assert answer.header("X-Workspace-Source") == "local"


@rows(BROKEN)
async def test_an_archive_that_breaks_is_visibly_broken(name: str, tmp_path: Path) -> None:
    row = BROKEN[name]
    async with staged(tmp_path, row.fault, times=row.times) as stage:
        answer = await GET.ask(stage)

    assert answer.header("X-Workspace-Source") == "remote"
    assert (answer.status, answer.complete) == (200, False)


@rows(OVERSIZED)
async def test_more_than_there_may_be_is_never_complete(name: str, tmp_path: Path) -> None:
    async with staged(tmp_path, OVERSIZED[name]) as stage:
        answer = await GET.ask(stage)

    if answer.complete:
        assert_from_fallback(GET, answer, "protocol")
    assert len(answer.body) < 5_000_000


@rows(HARMLESS)
async def test_what_passes_within_its_time_is_not_noticed(name: str, tmp_path: Path) -> None:
    async with staged(tmp_path, HARMLESS[name]) as stage:
        answer = await GET.ask(stage)

    assert GET.is_exact(answer)
    assert answer.header("X-Workspace-Source") == "remote"
    assert answer.header("X-Workspace-Fallback") is None


async def test_no_header_of_the_other_gateway_reaches_the_client(tmp_path: Path) -> None:
    async with staged(tmp_path, faults.changed(with_evil_headers)) as stage:
        answer = await GET.ask(stage)

    assert GET.is_exact(answer)
    for name, value in answer.headers:
        assert "evil" not in value.lower()
        assert value != EVIL["Cache-Control"], name


async def test_nothing_of_the_client_reaches_the_other_gateway(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await GET.ask(stage, "Cookie: c=client", "X-Forwarded-For: client", "X-Any: client")

    (request,) = stage.proxy.requests
    assert b"client" not in request
    assert TOKEN.encode() in request


async def test_an_archive_of_the_fallback_goes_on_as_no_other(tmp_path: Path) -> None:
    """It has another tag: what was begun by one gateway is not ended by the next."""
    async with staged(tmp_path) as stage:
        begun = await GET.ask(stage)
        stage.proxy.fault = faults.reset
        onwards = ("Range: bytes=100-", f"If-Range: {begun.header('ETag')}")
        anew = await GET.ask(stage, *onwards)
        stage.proxy.fault = fault_proxy.honest
        rest = await GET.ask(stage, *onwards)

    assert (anew.status, anew.header("X-Workspace-Source")) == (200, "local")
    assert GET.is_exact(anew)
    assert anew.header("ETag") != begun.header("ETag")
    assert (rest.status, rest.body) == (206, begun.body[100:])
