"""The real sidecar command, running."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tests.gateways import Process

TOKEN = "wsg_test_sidecar_0123456789abcdef"


@dataclass
class Sidecar:
    """A sidecar that listens on the unix socket at *path*."""

    popen: subprocess.Popen[bytes]
    path: Path
    log: Path
    token: Path

    def executor(self, **changes: Any) -> dict[str, Any]:
        """What a gateway's config says to use it."""
        url, token = f"unix://{self.path}", {"file": str(self.token)}
        return {
            "executors": {"edge": {"type": "gateway", "url": url, "token": token, **changes}},
            "placement": {"default": {"executor": "edge"}},
        }

    @property
    def process(self) -> Process:
        """What tests may ask of any gateway's process; it listens at no port."""
        return Process(self.popen, 0, self.log)

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The lines of that event, so far."""
        lines = [
            orjson.loads(line) for line in self.log.read_bytes().splitlines() if line[:1] == b"{"
        ]
        return [line for line in lines if line["event"] == event]

    def request(self, request_id: str, within_s: float = 5) -> dict[str, Any]:
        """The log line of that request, which may come a moment after its answer."""
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            for line in self.logged("http_request"):
                if line["request_id"] == request_id:
                    return line
            time.sleep(0.02)
        raise AssertionError(f"no request {request_id} in\n{self.log.read_text()}")

    def kill(self) -> None:
        """As the kernel does when memory runs out."""
        self.popen.kill()
        self.popen.wait()


@contextmanager
def sidecar(tmp: Path, root: Path, *, listen: str | None = None) -> Iterator[Sidecar]:
    """`workspace-gateway sidecar` on *root*; ended with the block."""
    path, log, token = tmp / "sidecar.sock", tmp / "sidecar.log", tmp / "sidecar.token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    arguments = ["--root", str(root), "--listen", listen or f"unix:{path}"]
    with log.open("wb") as output:
        popen = subprocess.Popen(
            [sys.executable, "-m", "gateway", "sidecar", *arguments, "--token-file", str(token)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONWARNINGS": "default"},
        )
    running = Sidecar(popen, path, log, token)
    try:
        end = time.monotonic() + 20
        while not running.logged("serving"):
            assert popen.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        yield running
    finally:
        if popen.poll() is None:
            popen.send_signal(signal.SIGTERM)
            try:
                popen.wait(15)
            except subprocess.TimeoutExpired:
                running.kill()
