"""`demo`, as a stranger meets it: a process, its output, the lines that are to be pasted."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gateway.cli.demo import _sample
from gateway.cli.exits import Exit
from tests import needs
from tests.ports import free_port
from tests.unit.cli.command import command, inherited


@contextmanager
def demo(cwd: str, port: int, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A demo that is ready, with what it printed; it is interrupted at the end."""
    arguments = [sys.executable, "-m", "gateway", "demo", "--port", str(port)]
    with subprocess.Popen(
        arguments,
        cwd=cwd,
        env=inherited() | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            lines = []
            while not lines or "/metrics" not in lines[-1]:
                lines.append(process.stdout.readline())
                assert lines[-1], process.communicate()
            yield process, "".join(lines)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)
        finally:
            process.kill()


def test_every_line_can_be_pasted_and_nothing_is_left(tmp_path):
    needs.program("curl")
    port = free_port()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    with demo(str(tmp_path), port) as (process, printed):
        answers = [
            subprocess.run(
                ["bash", "-c", line.replace("curl ", "curl -sS --fail ", 1)],
                cwd=elsewhere,
                capture_output=True,
                timeout=20,
                check=True,
            ).stdout
            for line in printed.splitlines()
            if line.startswith("curl ")
        ]
        picture = (tmp_path / ".demo/workspaces/demo/output/chart.png").read_bytes()

    assert len(answers) == 14
    assert b"/output/r\xc3\xa9sum\xc3\xa9.txt" in answers[1]
    assert b"/output/quarterly report.txt" in answers[1]
    assert answers[2].startswith(b"date,product,sold\n")
    assert (elsewhere / "chart.png").read_bytes() == picture
    assert b"workspace_gateway_" in answers[-1]
    for name in ("workspace.zip", "again.zip", "workspace-demo.zip"):
        with zipfile.ZipFile(elsewhere / name) as archive:
            assert archive.read("output/chart.png") == picture
    with tarfile.open(elsewhere / "workspace-demo.tar.gz") as tar:
        assert "analysis.py" in tar.getnames()
    assert process.returncode == Exit.OK
    assert os.listdir(tmp_path) == ["elsewhere"]


def test_the_key_may_come_from_the_environment(tmp_path):
    """And there is the session that Shannon's documentation talks about."""
    port = free_port()
    url = f"http://localhost:{port}/api/v1/sessions/sessionId/files/analysis.py"

    with demo(str(tmp_path), port, WORKSPACE_GATEWAY_KEY="sk_test_123456") as (_, printed):
        answer = subprocess.run(
            [needs.program("curl"), "-sS", "--fail", "-H", "X-API-Key: sk_test_123456", url],
            capture_output=True,
            timeout=20,
            check=True,
        )

    assert "sk_test_123456" in printed
    assert answer.stdout.startswith(b'"""Counts')


def test_each_start_has_a_key_of_its_own(tmp_path):
    keys = []
    for _ in range(2):
        with demo(str(tmp_path), free_port()) as (_, printed):
            keys += re.findall(r"wsg_demo_\w+", printed)[:1]

    assert len(set(keys)) == 2


@pytest.mark.parametrize("offset", [0, 1])
def test_a_port_that_is_taken(tmp_path, offset):
    port = free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port + offset))
        taken.listen()

        result = command("demo", "--port", str(port), cwd=str(tmp_path))

    assert result.returncode == Exit.FAILED
    assert re.fullmatch(
        rf"Error: port {port + offset}: .*; try another: make demo PORT=\d+\n", result.stderr
    )
    assert os.listdir(tmp_path) == []


def test_a_directory_with_other_files_is_left_alone(tmp_path):
    (tmp_path / ".demo" / "workspaces").mkdir(parents=True)

    result = command("demo", "--port", str(free_port()), cwd=str(tmp_path))

    assert result.returncode == Exit.FAILED
    assert result.stderr == "Error: .demo: holds other files; try demo --dir NAME\n"
    assert os.listdir(tmp_path / ".demo") == ["workspaces"]


@pytest.mark.parametrize("directory", ["a/b", "file"])
def test_a_directory_that_cannot_be_made(tmp_path, directory):
    (tmp_path / "file").touch()

    result = command("demo", "--port", str(free_port()), "--dir", directory, cwd=str(tmp_path))

    assert result.returncode == Exit.FAILED
    assert re.fullmatch(rf"Error: {directory}: .*\n", result.stderr)


def test_a_second_demo_does_not_take_the_first_ones_files(tmp_path):
    with demo(str(tmp_path), free_port()):
        result = command("demo", "--port", str(free_port()), cwd=str(tmp_path))
        kept = os.listdir(tmp_path / ".demo/workspaces")

    assert result.returncode == Exit.FAILED
    assert result.stderr == "Error: .demo: another demo uses it; try demo --dir NAME\n"
    assert sorted(kept) == ["demo", "sess_123", "sessionId"]


def test_what_a_killed_demo_left_is_taken_over(tmp_path):
    with demo(str(tmp_path), free_port()) as (process, _):
        process.kill()
        process.wait()
    assert os.listdir(tmp_path) == [".demo"]

    with demo(str(tmp_path), free_port()):
        pass

    assert os.listdir(tmp_path) == []


def test_a_sample_that_is_not_there_at_the_end_leaves_nothing(tmp_path, monkeypatch):
    """Ctrl-C may come before it has been written."""
    monkeypatch.chdir(tmp_path)

    with _sample(".demo"):
        shutil.rmtree(".demo/workspaces")

    assert os.listdir(tmp_path) == []


def test_a_closed_terminal_ends_it(tmp_path):
    with demo(str(tmp_path), free_port()) as (process, _):
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=20)

    assert process.returncode == Exit.OK
    assert os.listdir(tmp_path) == []


def test_an_empty_directory_stays(tmp_path):
    (tmp_path / ".demo").mkdir()

    with demo(str(tmp_path), free_port()):
        assert os.listdir(tmp_path / ".demo")

    assert os.listdir(tmp_path / ".demo") == []
