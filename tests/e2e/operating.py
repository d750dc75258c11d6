"""What an operator does to a gateway: start it, look at its log and processes, signal it."""

import asyncio
import hashlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
import yaml

from tests.gateways import AUTH, Process, key_entry, settings
from tests.ports import free_port
from tests.wire import Wire, head

FILES = "/api/v1/sessions/s1/files"
BIG = 50 << 20
CHECKOUT = Path(__file__).parents[2]


def big_file(root: Path, size: int = BIG) -> str:
    """Write `s1/big.bin`, in which no two blocks are alike; return its SHA-256."""
    digest = hashlib.sha256()
    noise = os.urandom((1 << 20) - 8)
    (root / "s1").mkdir(parents=True, exist_ok=True)
    with (root / "s1" / "big.bin").open("wb") as file:
        for number in range(size >> 20):
            block = number.to_bytes(8, "big") + noise
            file.write(block)
            digest.update(block)
    return digest.hexdigest()


class Clients:
    """Connections to the gateway; whoever made them closes them."""

    def __init__(self) -> None:
        self._open = AsyncExitStack()

    async def connect(self, port: int) -> Wire:
        """A connection on which nothing has been asked yet."""
        return await self._open.enter_async_context(await Wire.connect(port))

    async def slow(self, port: int, target: str, version: str = "1.1", *, times: int = 1) -> Wire:
        """Ask for *target*, once or several times without waiting for answers; read nothing.

        The kernel still takes some 2.5 MB from a server on the loopback interface.
        """
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        sock.connect(("127.0.0.1", port))
        wire = Wire(*await asyncio.open_connection(sock=sock, limit=4096))
        await self._open.enter_async_context(wire)
        await wire.send(head(target, AUTH, version=version) * times)
        return wire

    async def leave(self) -> None:
        await self._open.aclose()


async def eventually(fact: Callable[[], object], within_s: float = 10) -> Any:
    """Return what *fact* gives once it is true."""
    end = time.monotonic() + within_s
    while not (value := fact()):
        assert time.monotonic() < end, "it has not come true"
        await asyncio.sleep(0.02)
    return value


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return False
    return True


def log_of(process: Process, event: str | None = None) -> list[dict[str, Any]]:
    """The log lines so far, each of which must be a JSON object."""
    raw = process.log.read_bytes()
    lines = [orjson.loads(line) for line in raw[: raw.rfind(b"\n") + 1].splitlines()]
    assert all(isinstance(line, dict) for line in lines)
    return [line for line in lines if event in (None, line["event"])]


async def logged(process: Process, event: str, count: int = 1) -> list[dict[str, Any]]:
    """The log lines of *event* once there are *count*."""
    await eventually(lambda: len(log_of(process, event)) >= count)
    return log_of(process, event)


def rewrite(process: Process, changes: Mapping[str, Any]) -> None:
    """Change the config of `command` or `launched`, in one go, as an operator should."""
    file = process.log.with_name("gateway.yaml")
    data = yaml.safe_load(file.read_text())
    for section, values in changes.items():
        data[section] = {**data.get(section, {}), **values}
    new = file.with_suffix(".new")
    new.write_text(yaml.safe_dump(data))
    new.replace(file)


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def descriptors(pid: int, kind: str = "") -> int:
    found = 0
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            found += os.readlink(f"/proc/{pid}/fd/{name}").startswith(kind)
    return found


@contextmanager
def limited(pid: int, what: int, limit: int) -> Iterator[None]:
    """Let the process have no more than that of a resource (`RLIMIT_…`)."""
    before = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (limit, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, what, before)


def without_descriptors(pid: int) -> AbstractContextManager[None]:
    """Let the process open no file."""
    return limited(pid, resource.RLIMIT_NOFILE, 0)


def without_threads(pid: int) -> AbstractContextManager[None]:
    """Leave the process some memory, but not enough for the stack of a thread."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    return limited(pid, resource.RLIMIT_AS, pages * resource.getpagesize() + (4 << 20))


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@contextmanager
def launched(
    tmp: Path,
    root: Path,
    changes: Mapping[str, Any] | None = None,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    stderr: int | None = None,
) -> Iterator[Process]:
    """`serve`, not waited for, leading a process group of its own; killed with the block."""
    data = settings(root, changes)
    data["server"]["port"] = data["server"]["port"] or free_port()
    file = tmp / "gateway.yaml"
    file.write_text(yaml.safe_dump(data))
    with _serving(
        tmp, data["server"]["port"], ("-c", str(file), *arguments), environment or {}, stderr
    ) as process:
        yield process


@contextmanager
def launched_without_config(tmp: Path, root: Path, *arguments: str) -> Iterator[Process]:
    """The same with `--root`, and the key of all tests."""
    root.with_name(f"{root.name}.keys.yaml").write_text(yaml.safe_dump([key_entry()]))
    port = free_port()
    with _serving(tmp, port, ("--root", str(root), "--port", str(port), *arguments)) as process:
        yield process


@contextmanager
def _serving(
    tmp: Path,
    port: int,
    arguments: tuple[str, ...],
    environment: Mapping[str, str] | None = None,
    stderr: int | None = None,
) -> Iterator[Process]:
    log = tmp / "gateway.log"
    with log.open("wb") as output:
        popen = subprocess.Popen(
            [sys.executable, "-m", "gateway", "serve", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output if stderr is None else stderr,
            env={**os.environ, **(environment or {})},
            process_group=0,
        )
    try:
        yield Process(popen, port, log)
    finally:
        if popen.poll() is None:
            os.killpg(popen.pid, signal.SIGKILL)
        popen.wait()


async def made_link(port: int, **body: object) -> str:
    """The URL of a new link to something in `s1`."""
    raw = orjson.dumps(body)
    async with await Wire.connect(port) as wire:
        length = f"Content-Length: {len(raw)}"
        await wire.send(head("/api/v1/sessions/s1/links", AUTH, length, method="POST") + raw)
        url: str = (await wire.answer()).json["url"]
        return url
