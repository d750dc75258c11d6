"""Real programs that rigs talk to: each is started once, when the first test wants it."""

import atexit
import os
import subprocess
import tempfile
import time
import urllib.request
from functools import cache
from pathlib import Path
from typing import IO

from tests import needs
from tests.ports import free_port

TOKEN = "token-of-a-backend"
_STARTING_S = 90


@cache
def sandbox_agent() -> str:
    """sandbox-agent on this host's files, with `TOKEN`; its URL."""
    port = free_port()
    command = [needs.backend("sandbox-agent/sandbox-agent"), "server", "--token", TOKEN]
    address = ["--host", "127.0.0.1", "--port", str(port), "--no-telemetry"]
    return _started([*command, *address], port, "/", {})


@cache
def open_terminal() -> str:
    """open-terminal on this host's files, with `TOKEN`; its URL."""
    port = free_port()
    command = [needs.backend("open-terminal/bin/open-terminal"), "run"]
    address = ["--host", "127.0.0.1", "--port", str(port)]
    return _started([*command, *address], port, "/health", {"OPEN_TERMINAL_API_KEY": TOKEN})


@cache
def openhands() -> str:
    """OpenHands' agent-server on this host's files, with `TOKEN`; its URL."""
    port = free_port()
    command = [needs.backend("openhands/bin/python"), "-m", "openhands.agent_server"]
    address = ["--host", "127.0.0.1", "--port", str(port)]
    # Without this a library of it asks the network while it is imported, and when that fails its
    # log sometimes meets its own half-made imports.
    environment = {"SESSION_API_KEY": TOKEN, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    return _started([*command, *address], port, "/alive", environment)


def _started(command: list[str], port: int, health: str, environment: dict[str, str]) -> str:
    home = tempfile.TemporaryDirectory()
    log = open(os.path.join(home.name, "stderr.log"), "w+b")  # noqa: SIM115  # ends with the program
    process = subprocess.Popen(
        command,
        cwd=home.name,
        env={"PATH": os.environ["PATH"], "HOME": home.name, "LANG": "C.UTF-8", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=log,
    )
    atexit.register(_ended, process, log, home)
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + _STARTING_S
    while not _answers(url + health):
        if process.poll() is not None:
            log.seek(0)
            raise AssertionError(f"{command[0]} ended: {log.read()[-2000:].decode()}")
        assert time.monotonic() < deadline, f"{Path(command[0]).name} does not answer"
        time.sleep(0.2)
    return url


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _ended(
    process: subprocess.Popen[bytes], log: IO[bytes], home: "tempfile.TemporaryDirectory[str]"
) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    log.close()
    home.cleanup()
