"""The commands of Shannon's documentation, as they stand there, against the demo."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from tests import needs
from tests.ports import free_port

# "Workspace Files API". curl takes the braces for a list of one and asks for `sessionId`.
LIST = """\
curl "http://localhost:8080/api/v1/sessions/{sessionId}/files" \\
  -H "X-API-Key: sk_test_123456"
"""
LIST_BELOW = """\
curl "http://localhost:8080/api/v1/sessions/{sessionId}/files?path=output&recursive=true" \\
  -H "X-API-Key: sk_test_123456"
"""
DOWNLOAD = """\
curl "http://localhost:8080/api/v1/sessions/{sessionId}/files/analysis.py" \\
  -H "X-API-Key: sk_test_123456" \\
  -o analysis.py
"""


@dataclass(frozen=True)
class Demo:
    """A running demo, and a place where shell commands find it at `localhost:8080`."""

    directory: Path
    port: int

    def run(self, command: str) -> bytes:
        """Run *command* verbatim; return what it prints."""
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self.directory,
            env={**os.environ, "CURL_HOME": str(self.directory), "no_proxy": "*"},
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    needs.program("curl")
    directory = tmp_path_factory.mktemp("demo")
    port = free_port()
    (directory / ".curlrc").write_text(
        f'connect-to = "localhost:8080:127.0.0.1:{port}"\nsilent\nshow-error\n'
    )
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "demo", "--port", str(port)],
            cwd=directory,
            env={
                **os.environ,
                "WORKSPACE_GATEWAY_KEY": "sk_test_123456",
                "PYTHONPATH": str(Path(__file__).parents[2]),
            },
            stdout=output,
            stderr=output,
        )
    try:
        end = time.monotonic() + 15
        while b"listens on" not in log.read_bytes():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.02)
        yield Demo(directory, port)
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(15)
    assert code == 0
    assert not (directory / ".demo").exists()


def test_list(demo: Demo) -> None:
    body = orjson.loads(demo.run(LIST))

    assert list(body) == ["session_id", "path", "files"]
    assert (body["session_id"], body["path"]) == ("sessionId", "/")
    shown = {entry["path"]: entry for entry in body["files"]}
    assert shown["/output"]["is_dir"] is True
    assert shown["/output"]["size"] == 0
    for entry in body["files"]:
        assert list(entry) == ["name", "path", "size", "is_dir", "modified_at"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", entry["modified_at"])


def test_list_below(demo: Demo) -> None:
    body = orjson.loads(demo.run(LIST_BELOW))

    assert body["path"] == "/output"
    assert "/output/results.csv" in [entry["path"] for entry in body["files"]]


def test_download(demo: Demo) -> None:
    printed = demo.run(DOWNLOAD)

    saved = demo.directory / "analysis.py"
    original = demo.directory / ".demo/workspaces/sessionId/analysis.py"
    assert printed == b""
    assert saved.read_bytes() == original.read_bytes()
    assert saved.stat().st_size > 0


def test_the_documented_error(demo: Demo) -> None:
    """`--path-as-is`, since curl would collapse the traversal before it is sent."""
    traversal = DOWNLOAD.replace('analysis.py"', '../../etc/passwd" --path-as-is').replace(
        "-o analysis.py", "-w '%{http_code}'"
    )

    assert demo.run(traversal) == b'{"error":"invalid path: traversal not allowed"}400'


def test_without_the_key(demo: Demo) -> None:
    without = LIST.replace('-H "X-API-Key: sk_test_123456"', "-w '%{http_code}'")

    assert demo.run(without) == b'{"error":"missing or invalid credentials"}401'
