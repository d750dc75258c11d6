"""Running gateways for tests: in this process on a free port, or as the real command."""

import asyncio
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gateway.cli.config_file import ExecutorModels
from gateway.config.load import from_mapping
from gateway.config.model import Config
from gateway.listeners import Address, Tcp, bound
from gateway.server import Generation
from tests import wire
from tests.ports import free_port

KEY = "sk_test_123456"
AUTH = f"X-API-Key: {KEY}"
ANY_PORT = Tcp("127.0.0.1", 0)

Files = Mapping[str | bytes, bytes | str | None]
"""By path: bytes are a file's content, text is a link's target, None is a directory."""

DATABASE = ".gateway.db"
"""What the usual store's name has behind that of the workspaces' root."""

STORES: dict[str, str] = {}
"""Addresses of stores that gateways on a root use instead of the usual one."""


def key_entry(key: str = KEY, **changes: Any) -> dict[str, Any]:
    """A key as the config has it."""
    return {
        "id": "test",
        "org": "acme",
        "sha256": hashlib.sha256(key.encode()).hexdigest(),
        "scopes": ["files:read"],
        **changes,
    }


def store_address(root: Path | str) -> str:
    """Where the store of a gateway on *root* is, unless its config says something else."""
    return STORES.get(str(root), f"sqlite:///{root}{DATABASE}")


def settings(root: Path | str, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A config for tests as YAML has it; *changes* go over it, section by section."""
    data: dict[str, Any] = {
        "server": {"port": 0, "grace": "0s", "drain": "30s"},
        "auth": {"keys": [key_entry()]},
        "limits": {
            "requests_per_minute": 0,
            "requests_at_once": 0,
            "auth_failures_per_minute": 0,
        },
        "spool": {"dir": f"{root}.spool"},
        "store": {"url": store_address(root)},
        "executors": {"local": {"type": "local", "root": str(root)}},
    }
    for section, values in (changes or {}).items():
        data[section] = _merged(data.get(section, {}), values)
    return data


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **old,
        **{
            name: _merged(old[name], value)
            if isinstance(value, dict) and isinstance(old.get(name), dict)
            else value
            for name, value in new.items()
        },
    }


def resolved_by(resolver: str) -> dict[str, Any]:
    """Changes that force this way of resolving paths."""
    return {"executors": {"local": {"resolver": resolver}}}


def config_for(root: Path | str, changes: Mapping[str, Any] | None = None) -> Config:
    """The same as a `Config`."""
    return from_mapping(settings(root, changes), ExecutorModels(), "test")


@dataclass(frozen=True)
class Gateway:
    """A gateway that listens on a port of this machine."""

    port: int
    admin_port: int

    async def ask(self, target: str | bytes, *headers: str | bytes, **options: Any) -> wire.Answer:
        """A request with the good key."""
        return await wire.ask(self.port, target, AUTH, *headers, **options)

    async def file(
        self, raw_path: str | bytes, *headers: str | bytes, session: str = "s1", **o: Any
    ) -> wire.Answer:
        """Download; *raw_path* goes onto the wire as it is."""
        raw = raw_path if isinstance(raw_path, bytes) else raw_path.encode()
        return await self.ask(f"/api/v1/sessions/{session}/files/".encode() + raw, *headers, **o)

    async def files(
        self, query: str = "", *headers: str | bytes, session: str = "s1", **o: Any
    ) -> wire.Answer:
        """List; *query* goes onto the wire as it is."""
        mark = "?" if query else ""
        return await self.ask(f"/api/v1/sessions/{session}/files{mark}{query}", *headers, **o)


@asynccontextmanager
async def running(
    root: Path | str, changes: Mapping[str, Any] | None = None, at: Address = ANY_PORT
) -> AsyncIterator[Gateway]:
    """A gateway in this process; its port is 0 where it listens on something else."""
    generation = Generation(config_for(root, changes))
    with ExitStack() as stack:
        main = stack.enter_context(bound(at, "test", shared=False))
        admin = stack.enter_context(bound(ANY_PORT, "test", shared=False))
        await generation.start(main, admin)
        port = main[0].getsockname()[1] if isinstance(at, Tcp) else 0
        try:
            yield Gateway(port, admin[0].getsockname()[1])
        finally:
            await generation.end()


async def slowest_liveness(gateway: Gateway, is_over: Callable[[], bool]) -> float:
    """Ask whether the gateway is alive until *is_over*; return the longest wait in seconds."""
    slowest = 0.0
    while not is_over():
        began = time.perf_counter()
        assert (await wire.ask(gateway.port, "/livez")).status == 200
        slowest = max(slowest, time.perf_counter() - began)
    return slowest


@contextmanager
def threaded(root: Path | str, changes: Mapping[str, Any] | None = None) -> Iterator[Gateway]:
    """The same on a loop of its own, for tests that are not asynchronous."""
    ready: Future[tuple[Gateway, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        leave = asyncio.Event()
        async with running(root, changes) as gateway:
            ready.set_result((gateway, asyncio.get_running_loop(), leave))
            await leave.wait()

    with ThreadPoolExecutor(1) as pool:
        served = pool.submit(asyncio.run, serve())
        served.add_done_callback(lambda done: ready.done() or ready.set_exception(done.exception()))
        gateway, loop, leave = ready.result(10)
        try:
            yield gateway
        finally:
            loop.call_soon_threadsafe(leave.set)
            served.result(10)


_LISTENS = "0A"  # TCP_LISTEN, as /proc/net/tcp has it
_CLOSED = "0"  # the inode of a connection that only the kernel still holds


def connections(port: int) -> set[str]:
    """The server's ends of connections to *port*, as links in /proc/self/fd name them."""
    sockets = map(str.split, Path("/proc/self/net/tcp").read_text().splitlines())
    return {
        f"socket:[{inode}]"
        for _, local, _, state, _, _, _, _, _, inode, *_ in sockets
        if local.endswith(f":{port:04X}") and state != _LISTENS and inode != _CLOSED
    }


def held(port: int) -> int:
    """This process's descriptors, without sockets and pipes other than `connections` to *port*.

    Those, and the null device, are of helpers, which start by themselves, and of whoever asks. The
    store's are not counted either: it opens its database once more when something is written for
    the first time.
    """
    clients = connections(port)
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            target = os.readlink(f"/proc/self/fd/{name}")
            is_other = target.startswith(("socket:", "pipe:", os.devnull)) or DATABASE in target
            count += not is_other or target in clients
    return count


def plant(root: Path, files: Files) -> Path:
    """Write *files* below *root*, which need not be there; what is there is written anew."""
    for name, content in files.items():
        path = os.path.join(os.fsencode(root), os.fsencode(name))
        os.makedirs(path if content is None else os.path.dirname(path), exist_ok=True)
        if content is None:
            continue
        if os.path.islink(path):
            os.unlink(path)
        if isinstance(content, str):
            os.symlink(content, path)
        else:
            with open(path, "wb") as file:
                file.write(content)
    return root


@dataclass
class Process:
    """The real command, running."""

    popen: subprocess.Popen[bytes]
    port: int
    log: Path
    socket: str | None = None

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def peak(self) -> int:
        """The most memory that it ever had, in bytes."""
        status = Path(f"/proc/{self.popen.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    async def exit_code(self) -> int:
        """Wait for the end, less long than `settings` let it go on with what is under way."""
        return await asyncio.wait_for(asyncio.to_thread(self.popen.wait), 20)


@contextmanager
def command(
    tmp: Path,
    root: Path,
    changes: Mapping[str, Any] | None = None,
    *,
    port: int | None = None,
    arguments: tuple[str, ...] = (),
    launcher: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Process]:
    """`workspace-gateway serve --config …` as a process of its own; ended with the block.

    It listens at *port*, or at a free one. *launcher* is a command that starts another one (`env`,
    `setpriv`, `strace`).
    """
    port = port or free_port()
    file = tmp / "gateway.yaml"
    data = settings(root, changes)
    path = data["server"].get("socket")
    if path is None:
        data["server"]["port"] = port
    else:
        del data["server"]["port"]
    file.write_text(yaml.safe_dump(data))
    log = tmp / "gateway.log"
    with log.open("wb") as output:
        popen = subprocess.Popen(
            [*launcher, sys.executable, "-m", "gateway", "serve", "-c", str(file), *arguments],
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONWARNINGS": "default", **(environment or {})},
        )
    process = Process(popen, port, log, path)
    try:
        wait_until_ready(process)
        yield process
    finally:
        if popen.poll() is None:
            popen.send_signal(signal.SIGQUIT)  # at once, whoever is still being answered
            try:
                popen.wait(15)
            except subprocess.TimeoutExpired as exc:
                popen.kill()
                popen.wait()
                raise AssertionError(f"it did not end: {log.read_text()}") from exc


def _connect(process: Process) -> None:
    if process.socket is None:
        socket.create_connection(("127.0.0.1", process.port), 1).close()
        return
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(process.socket)


def wait_until_ready(process: Process, within_s: float = 15) -> None:
    """Return once it accepts connections; fail with the log if the process ends before."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if process.popen.poll() is not None:
            raise AssertionError(process.log.read_text())
        try:
            _connect(process)
            return
        except OSError:
            time.sleep(0.02)
    raise AssertionError("not ready: " + process.log.read_text())
