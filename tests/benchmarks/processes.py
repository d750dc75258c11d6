"""Starting servers on loopback ports, knowing what they cost, and ending exactly those."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
# A port there, or a unix socket.
Address = int | Path
_READY_WITHIN_S = 20.0
_STOP_WITHIN_S = 10.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Missing(Exception):
    """A peer cannot be measured here; the message says why and what would help."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running peer; *sessions* are the processes whose cost is its own."""

    name: str
    port: int
    sessions: tuple[int, ...]
    ready_after_s: float

    @property
    def url(self) -> str:
        """Return the base URL, without a slash at its end."""
        return f"http://{HOST}:{self.port}"

    def cpu_s(self) -> float:
        """Return the CPU time of all its processes so far, and of those that they waited for."""
        fields = [stat for _, stat in _stats(self.sessions)]
        return sum(int(ticks) for stat in fields for ticks in stat[11:15]) / _TICKS

    def rss_bytes(self) -> int:
        """Return the resident memory of all its processes; pages that they share count twice."""
        # Only growth is told, and a page that becomes private does not change the sum.
        return sum(int(stat[21]) for _, stat in _stats(self.sessions)) * _PAGE

    def pss_bytes(self) -> int:
        """Return the memory of all its processes; each of them that shares a page has its part."""
        return sum(map(_pss_bytes, (pid for pid, _ in _stats(self.sessions))))


@contextlib.contextmanager
def serving(
    name: str,
    command: Sequence[str],
    *,
    port: int,
    log: Path,
    ready: str = "/readyz",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Yield the server once *ready* answers 200; raise `Missing` if it never does."""
    began = time.monotonic()
    with running(name, command, address=port, log=log, ready=ready, cwd=cwd, env=env) as session:
        yield Server(name, port, (session,), time.monotonic() - began)


@contextlib.contextmanager
def running(
    name: str,
    command: Sequence[str],
    *,
    address: Address,
    log: Path,
    ready: str = "/readyz",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[int]:
    """Yield the session of a server that only others here talk to, else as `serving`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=cwd,
            env={**os.environ, **(env or {})},
        )
    try:
        _await_ready(name, process, address, ready, log)
        yield process.pid
    finally:
        _stop(process)


def _await_ready(
    name: str, process: subprocess.Popen[bytes], address: Address, path: str, log: Path
) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    while not _answers(address, path):
        if process.poll() is not None:
            raise Missing(f"{name} ended with {process.returncode}: {_tail(log)}")
        if time.monotonic() > deadline:
            raise Missing(f"{name} was not ready within {_READY_WITHIN_S:.0f} s: {_tail(log)}")
        time.sleep(0.005)


def _answers(address: Address, path: str) -> bool:
    request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
    try:
        with _connected(address) as connection:
            connection.sendall(request.encode())
            return connection.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def _connected(address: Address) -> socket.socket:
    if isinstance(address, int):
        return socket.create_connection((HOST, address), timeout=1)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(1)
        connection.connect(str(address))
    except OSError:
        connection.close()
        raise
    return connection


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_WITHIN_S)
    # Its session is ours alone: whatever is left there descends from the process started above.
    for pid, _ in _stats((process.pid,)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait(_STOP_WITHIN_S)


def _stats(sessions: Collection[int]) -> list[tuple[int, list[str]]]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        # The name may hold spaces and brackets; the fields begin behind the last bracket.
        fields = line[line.rindex(")") + 2 :].split()
        if int(fields[3]) in sessions:
            found.append((int(pid), fields))
    return found


def _pss_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it ended a moment ago
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return " / ".join(line.strip() for line in lines[-2:])[-300:] or "it said nothing"
