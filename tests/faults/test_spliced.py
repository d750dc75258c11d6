"""Large files that the kernel moves from the executor's connection to the client's: exact, or
visibly broken.
"""

import asyncio
import random
import socket
import time

import pytest

from tests import wire
from tests.doubles import faults
from tests.doubles.fault_proxy import Exchange, honest
from tests.faults.stage import PATIENT, Times, staged
from tests.faults.subjects import SUBJECTS
from tests.faults.test_table import BODIES
from tests.gateways import AUTH

# More than all sockets on the way hold of it.
HUGE = random.Random(3).randbytes(24_000_001)
_TARGET = "/api/v1/sessions/s1/files/in/huge.bin"
_TOTAL_S = 2.0
_BRIEF = Times({**PATIENT.executor, "total": f"{_TOTAL_S}s"}, 20)

each = pytest.mark.parametrize(
    "subject", [SUBJECTS[name] for name in ("gateway", "http_profile")], ids=lambda s: s.name
)


@pytest.fixture
def huge(tmp_path):
    """A place for `staged` in which only the executor has the large file."""
    (tmp_path / "remote/s1/in").mkdir(parents=True)
    (tmp_path / "remote/s1/in/huge.bin").write_bytes(HUGE)
    return tmp_path


async def trickling(exchange: Exchange) -> None:
    """Send most at once, and of the rest a byte now and then: never late, and never done."""
    answer = await exchange.answer()
    whole = answer.whole()
    await exchange.say(whole[:-1000])
    for at in range(len(whole) - 1000, len(whole)):
        await exchange.say(whole[at : at + 1])
        await asyncio.sleep(0.05)


@each
async def test_all_bytes_arrive_one_download_after_the_other(subject, huge):
    async with (
        staged(subject, huge) as stage,
        await wire.Wire.connect(stage.gateway.port) as connection,
    ):
        for _ in range(2):
            answer = await connection.ask(_TARGET, AUTH)

            assert answer.header("X-Workspace-Source") == "remote"
            assert answer.body == HUGE


@each
async def test_the_rest_of_a_file_arrives(subject, huge):
    async with staged(subject, huge) as stage:
        answer = await stage.gateway.ask(_TARGET, "Range: bytes=1000001-")

    assert answer.status == 206
    assert answer.body == HUGE[1_000_001:]


@each
async def test_a_slow_reader_gets_all_bytes(subject, huge):
    async with staged(subject, huge) as stage:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", stage.gateway.port))
        reader, writer = await asyncio.open_connection(sock=sock)
        async with wire.Wire(reader, writer) as connection:
            await connection.send(wire.head(_TARGET, AUTH))
            await asyncio.sleep(0.5)
            answer = await connection.answer()

    assert answer.body == HUGE


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, id=name) for name, row in BODIES.items() if row.framing == "length"],
)
@each
async def test_an_answer_that_breaks_is_visibly_broken(subject, row, huge):
    async with staged(subject, huge, row.fault, times=row.times) as stage:
        answer = await stage.gateway.ask(_TARGET)

    assert answer.status == 200
    assert not answer.complete
    assert HUGE.startswith(answer.body)


@each
async def test_more_than_was_said_is_not_sent_on(subject, huge):
    async with (
        staged(subject, huge, faults.length(lambda n: n - 1)) as stage,
        await wire.Wire.connect(stage.gateway.port) as connection,
    ):
        answer = await connection.ask(_TARGET, AUTH)
        assert answer.body == HUGE[:-1]

        stage.proxy.fault = honest
        assert (await connection.ask(_TARGET, AUTH)).body == HUGE


@each
async def test_an_executor_that_sends_slowly_has_its_time_and_no_more(subject, huge):
    async with staged(subject, huge, trickling, times=_BRIEF) as stage:
        began = time.monotonic()
        answer = await stage.gateway.ask(_TARGET)
        took = time.monotonic() - began

    assert not answer.complete
    assert HUGE.startswith(answer.body)
    assert _TOTAL_S - 0.1 < took < _TOTAL_S + 3
