"""Standard error as the log's way out; each case in a process of its own, as it is about fd 2."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os
from gateway.telemetry.sink import Sink
sink = Sink(lambda count: b"lost %d\\n" % count)
for number in range(COUNT):
    sink.write(b"%0999d\\n" % number)
os.write(1, b"!")
os.read(0, 1)
sink.write(b"last\\n")
sink.write(b"really\\n")
"""


def start(stderr: int, count: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM.replace("COUNT", str(count))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
    )


def drain(descriptor: int) -> bytes:
    os.set_blocking(descriptor, False)
    data = b""
    while True:
        try:
            piece = os.read(descriptor, 1 << 20)
        except BlockingIOError:
            return data
        if not piece:
            return data
        data += piece


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_full_pipe_loses_lines_and_says_how_many(kind: str) -> None:
    """Whole lines, in order; and the process never waits."""
    if kind == "pipe":
        reads, writes = os.pipe()
    else:
        one, other = socket.socketpair()
        reads, writes = one.detach(), other.detach()
    process = start(writes, 2000)
    os.close(writes)
    assert process.stdout is not None
    assert process.stdout.read(1) == b"!"
    data = drain(reads)
    process.communicate(b"x", timeout=10)
    data += drain(reads)
    os.close(reads)

    lines = data.decode().splitlines()
    numbers = [int(line) for line in lines if line.isdigit()]
    lost = [int(line.split()[1]) for line in lines if line.startswith("lost")]
    assert numbers == sorted(numbers)
    assert all(len(line) == 999 for line in lines if line.isdigit())
    assert len(numbers) + sum(lost) == 2000
    assert lines[-2:] == ["last", "really"]
    assert process.returncode == 0


def test_a_file_gets_everything(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        process = start(log.fileno(), 500)
        process.communicate(b"x", timeout=10)

    lines = (tmp_path / "log").read_bytes().splitlines()
    assert [int(line) for line in lines[:-2]] == list(range(500))
    assert lines[-2:] == [b"last", b"really"]
