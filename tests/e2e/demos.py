"""The demo, running."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.operating import CHECKOUT
from tests.ports import free_port


@dataclass
class Demo:
    """A demo that is ready."""

    popen: subprocess.Popen[str]
    port: int
    printed: str

    def interrupt(self, within_s: float = 15) -> int:
        """Press Ctrl-C: the whole process group gets SIGINT; return the exit code."""
        os.killpg(self.popen.pid, signal.SIGINT)
        return self.popen.wait(within_s)


@contextmanager
def demo(cwd: Path, *command: str, port: int | None = None, **environment: str) -> Iterator[Demo]:
    """Run *command*, by default the `demo` of this checkout, in *cwd*, in a group of its own."""
    port = port or free_port()
    arguments = command or (sys.executable, "-m", "gateway", "demo", "--port", str(port))
    with (cwd / "demo.log").open("wb") as log:
        popen = subprocess.Popen(
            arguments,
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            process_group=0,
        )
    try:
        assert popen.stdout is not None
        lines: list[str] = []
        while not lines or "/metrics" not in lines[-1]:
            lines.append(popen.stdout.readline())
            assert lines[-1], (cwd / "demo.log").read_text()
        yield Demo(popen, port, "".join(lines))
        if popen.poll() is None:
            assert Demo(popen, port, "").interrupt() == 0
    finally:
        if popen.poll() is None:
            os.killpg(popen.pid, signal.SIGKILL)
        popen.communicate()
