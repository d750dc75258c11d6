"""The example of Shannon's deployment, under load, while its parts go one after the other."""

import asyncio
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import pytest

from tests import wire
from tests.e2e.operating import CHECKOUT, eventually
from tests.gateways import AUTH, KEY, Process, plant, wait_until_ready
from tests.ports import free_port
from tests.wire import Answer

EXAMPLE = CHECKOUT / "config/examples/shannon-firecracker.yaml"
EXECUTOR = """
import asyncio, sys
from pathlib import Path
from tests.doubles.firecracker import Shannon

async def serve():
    async with Shannon.running(Path(sys.argv[1]), boots=False) as shannon:
        print(shannon.url, flush=True)
        await asyncio.Event().wait()

asyncio.run(serve())
"""
SESSIONS = [f"s{number}" for number in range(6)]
NAMES = ["a.txt", "b.txt"]
A_WHILE = 20  # requests
WITHIN_S = 10.0  # the example's own deadline is a minute


@dataclass(frozen=True)
class Served:
    """The gateway, and the executor that it asks first."""

    gateway: Process
    executor: subprocess.Popen[bytes]
    directory: Path


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """Both as processes; the executor's files differ, so that bytes tell whose they are."""
    there = _sessions(tmp_path / "executor", b"firecracker")
    directory = _sessions(tmp_path / "sessions", b"local")
    executor = subprocess.Popen(
        [sys.executable, "-c", EXECUTOR, there], cwd=CHECKOUT, stdout=subprocess.PIPE
    )
    with ending(executor):
        assert executor.stdout is not None
        url = executor.stdout.readline().decode().strip()
        log, port = tmp_path / "gateway.log", free_port()
        with log.open("wb") as output:
            gateway = subprocess.Popen(
                [sys.executable, "-m", "gateway", "serve", "--config", EXAMPLE],
                stdout=output,
                stderr=output,
                env={
                    **os.environ,
                    "PORT": str(port),
                    "SHANNON_KEY_SHA256": hashlib.sha256(KEY.encode()).hexdigest(),
                    "FIRECRACKER_EXECUTOR_URL": url,
                    "SHANNON_SESSION_WORKSPACES_DIR": str(directory),
                },
            )
        with ending(gateway):
            process = Process(gateway, port, log)
            wait_until_ready(process)
            yield Served(process, executor, directory)


@contextmanager
def ending(process: subprocess.Popen[bytes]) -> Iterator[None]:
    with process:
        try:
            yield
        finally:
            process.kill()


def _sessions(directory: Path, whose: bytes) -> Path:
    for session in SESSIONS:
        plant(directory / session, {name: content(name, whose) for name in NAMES})
    return directory


def content(name: str, whose: bytes) -> bytes:
    return b"%s of %s\n" % (name.encode(), whose)


@dataclass(frozen=True)
class Asked:
    """A request, and what came of it."""

    target: str
    began: float
    took: float
    answer: Answer

    def assert_served(self) -> None:
        """It is whole, and what the executor has that it is said to be from."""
        answer = self.answer
        source = answer.header("X-Workspace-Source")
        assert (answer.status, answer.complete) == (200, True)
        assert (source, answer.header("X-Workspace-Fallback") is None) in (
            ("firecracker", True),
            ("local", False),
        )
        name = self.target.rpartition("/")[2]
        if name in NAMES:
            assert answer.body == content(name, str(source).encode())
        else:
            assert [entry["name"] for entry in answer.json["files"]] == NAMES


@dataclass
class Load:
    """Clients that ask for the same URLs again and again, and all that they have got."""

    port: int
    asked: list[Asked] = field(default_factory=list)
    is_over: bool = False

    async def run(self, session: str) -> None:
        files = f"/api/v1/sessions/{session}/files"
        targets = cycle([files, *(f"{files}/{name}" for name in NAMES)])
        while not self.is_over:
            target, began = next(targets), time.monotonic()
            answer = await wire.ask(self.port, target, AUTH)
            self.asked.append(Asked(target, began, time.monotonic() - began, answer))

    async def a_while(self) -> list[Asked]:
        """The next requests: none that is under way already."""
        now = time.monotonic()
        return await eventually(lambda: self._since(now), within_s=2 * WITHIN_S)

    def _since(self, moment: float) -> list[Asked]:
        found = [one for one in self.asked if one.began >= moment]
        return found if len(found) >= A_WHILE else []


@asynccontextmanager
async def loaded(port: int) -> AsyncIterator[Load]:
    load = Load(port)
    async with asyncio.TaskGroup() as group:
        for session in SESSIONS:
            group.create_task(load.run(session))
        try:
            yield load
        finally:
            load.is_over = True


def sources(asked: list[Asked]) -> set[str | None]:
    return {one.answer.header("X-Workspace-Source") for one in asked}


async def test_no_request_is_lost_that_could_be_served(served: Served) -> None:
    """Executor killed: the same URLs come from the directory. That gone as well: 502."""
    async with loaded(served.gateway.port) as load:
        up = await load.a_while()
        served.executor.kill()
        await asyncio.to_thread(served.executor.wait)
        killed = await load.a_while()
        servable = len(load.asked)
        served.directory.rename(served.directory.with_name("gone"))
        gone = await load.a_while()

    for one in load.asked[:servable]:
        one.assert_served()
    assert sources(up) == {"firecracker"}
    assert sources(killed) == {"local"}
    for one in load.asked[servable:]:
        if one in gone or one.answer.status != 200:
            assert one.answer.status == 502
            assert one.answer.json == {"error": "no executor could answer"}
        else:
            one.assert_served()
    assert max(one.took for one in load.asked) < WITHIN_S
