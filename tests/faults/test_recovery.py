"""Executors that die under load, flap and come back: no request is lost that could be served."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from tests import gateways, wire
from tests.doubles import fault_proxy, faults
from tests.faults.stage import FILES, HASTY, OPERATIONS, staged
from tests.faults.subjects import SUBJECTS, TOKEN
from tests.gateways import Gateway, Process, command, plant
from tests.ports import free_port
from tests.wire import Answer

_SESSIONS = 10
_SMALL = bytes(range(256)) * 256  # 64 KiB
_LARGE = _SMALL * 512  # 32 MiB: more than all sockets on the way hold
_DEADLINE_S = 10.0
_TIMEOUT = {"connect": "1s", "first_byte": "5s", "idle": "5s", "total": "60s"}
_OPEN_S = 5.0


@contextmanager
def backend(tmp: Path, root: Path, port: int) -> Iterator[Process]:
    """The executor's side: a real `workspace-gateway`, in a process that can be killed."""
    tmp.mkdir(exist_ok=True)
    changes = {"auth": {"keys": [gateways.key_entry(TOKEN)]}}
    with command(tmp, root, changes, port=port) as process:
        yield process


@asynccontextmanager
async def front(tmp: Path, root: Path, port: int) -> AsyncIterator[Gateway]:
    """The gateway under test, with the same directory as its fallback."""
    section = SUBJECTS["gateway"].section(tmp, f"http://127.0.0.1:{port}")
    changes = {
        "executors": {"remote": {**section, "timeout": _TIMEOUT}},
        "placement": {
            "default": {"executor": "remote", "fallback": ["local"]},
            "deadline": f"{_DEADLINE_S}s",
        },
    }
    async with gateways.running(root, changes) as gateway:
        yield gateway


def sessions(tmp: Path, count: int, content: bytes) -> Path:
    for number in range(count):
        plant(tmp / "sessions" / f"s{number}", {"file.bin": content})
    return tmp / "sessions"


async def circuit(gateway: Gateway) -> str:
    """The state of the executor's circuit as the metric tells it."""
    answer = await wire.ask(gateway.admin_port, "/metrics")
    name = 'workspace_gateway_executor_circuit_state{executor="remote"} '
    return next(
        line.removeprefix(name) for line in answer.body.decode().splitlines() if name in line
    )


async def until(condition: Callable[[], object], within_s: float = 10) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)


async def test_when_an_executor_dies_every_small_download_is_served(tmp_path):
    """And when it is back it is asked again."""
    root, port = sessions(tmp_path, _SESSIONS, _SMALL), free_port()
    answers: list[Answer] = []
    slowest = 0.0

    async def download(number: int) -> None:
        nonlocal slowest
        began = time.monotonic()
        answers.append(await gateway.file("file.bin", session=f"s{number % _SESSIONS}"))
        slowest = max(slowest, time.monotonic() - began)

    async with front(tmp_path, root, port) as gateway:
        with backend(tmp_path / "backend", root, port) as process:
            async with asyncio.TaskGroup() as group:
                for number in range(100):
                    group.create_task(download(number))
                await until(lambda: len(answers) >= 40)
                process.signal(signal.SIGKILL)
                killed_after = len(answers)
                await process.exit_code()
                for number in range(100):
                    group.create_task(download(number))
        served = Counter(answer.header("X-Workspace-Source") for answer in answers)

        assert len(answers) == 200
        assert all(a.status == 200 and a.complete and a.body == _SMALL for a in answers)
        assert served["remote"] >= killed_after
        assert served["local"] >= 100
        assert slowest < _DEADLINE_S

        while await circuit(gateway) != "2.0":
            await download(0)
        began = time.monotonic()
        left_alone = await gateway.file("file.bin")
        assert left_alone.header("X-Workspace-Fallback") == "circuit_open"
        assert time.monotonic() - began < 1

        with backend(tmp_path / "backend", root, port):
            await asyncio.sleep(_OPEN_S)
            back = await gateway.file("file.bin")
            assert back.header("X-Workspace-Source") == "remote"
            assert await circuit(gateway) == "0.0"


async def test_when_an_executor_dies_large_downloads_are_whole_or_visibly_broken(tmp_path):
    root, port = sessions(tmp_path, 1, _LARGE), free_port()
    begun = 0

    async def download() -> Answer:
        """A reader who takes a while, so that the end does not come before the kill."""
        nonlocal begun
        async with await wire.Wire.connect(gateway.port, limit=65536) as connection:
            target = "/api/v1/sessions/s0/files/file.bin"
            await connection.send(wire.head(target, gateways.AUTH))
            assert await connection.reader.readexactly(1) == b"H"
            begun += 1
            await killed.wait()
            return await connection.answer()

    killed = asyncio.Event()
    async with front(tmp_path, root, port) as gateway:
        with backend(tmp_path / "backend", root, port) as process:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(download()) for _ in range(8)]
                await until(lambda: begun == 8)
                process.signal(signal.SIGKILL)
                await process.exit_code()
                killed.set()

    answers = [task.result() for task in tasks]
    assert any(not answer.complete for answer in answers)
    for answer in answers:
        assert answer.status == 200
        assert _LARGE.startswith(answer.body)
        assert answer.complete == (answer.body == _LARGE)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
async def test_flapping_is_made_up_for(operation, tmp_path):
    """Every other answer is 503: by the retry, or the fallback once there were too many retries.

    A range takes two answers, for the file's head tells its type: with it, always by the fallback.
    """
    fault = faults.every_other(faults.status("503 Busy"))
    async with staged(SUBJECTS["gateway"], tmp_path, fault) as stage:
        answers = [await operation.ask(stage.gateway) for _ in range(30)]

    assert all(operation.is_exact(answer) for answer in answers)
    if operation is not OPERATIONS["range"]:
        assert "remote" in {answer.header("X-Workspace-Source") for answer in answers}


async def test_one_workspace_alone_takes_the_executor_from_nobody_else(tmp_path):
    """Whoever can break the answers about his own workspace is left alone, and only he."""
    operation = OPERATIONS["small"]
    async with staged(SUBJECTS["gateway"], tmp_path, faults.reset) as stage:
        plant(tmp_path / "remote" / "s2", FILES)
        reasons = [
            (await operation.ask(stage.gateway)).header("X-Workspace-Fallback") for _ in range(7)
        ]
        stage.proxy.fault = fault_proxy.honest
        answer = await operation.ask(stage.gateway, session="s2")

    assert reasons == ["unavailable"] * 5 + ["circuit_open"] * 2
    assert answer.header("X-Workspace-Source") == "remote"
    assert operation.is_exact(answer)


async def test_a_sidecar_of_one_workspace_that_is_silent_is_left_alone(tmp_path):
    """Else each request would wait for it until its time is up."""
    operation = OPERATIONS["small"]
    async with staged(SUBJECTS["gateway"], tmp_path, faults.silent, times=HASTY) as stage:
        reasons = [
            (await operation.ask(stage.gateway)).header("X-Workspace-Fallback") for _ in range(6)
        ]

    assert reasons == ["timeout"] * 5 + ["circuit_open"]
