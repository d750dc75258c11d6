"""The real command on a unix socket, as behind a proxy of the same machine."""

import asyncio
import hashlib
import os
import signal
import socket
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import wire
from tests.e2e.operating import FILES, Clients, children, eventually, logged
from tests.gateways import AUTH, command

WORKERS = [(), ("--workers", "2")]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "http.sock")


def on(path: str, **server: Any) -> dict[str, Any]:
    return {"server": {"socket": path, **server}}


@pytest.mark.parametrize("arguments", WORKERS)
async def test_everything_is_served_there(
    tmp_path: Path, big_root: tuple[Path, str], path: str, arguments: tuple[str, ...]
) -> None:
    root, sha256 = big_root
    with command(tmp_path, root, on(path, socket_mode="0600"), arguments=arguments) as process:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        listed = await wire.ask(path, FILES, AUTH)
        answers = [await wire.ask(path, f"{FILES}/big.bin", AUTH) for _ in range(4)]
        assert listed.json["files"][0]["name"] == "big.bin"
        assert {hashlib.sha256(answer.body).hexdigest() for answer in answers} == {sha256}
        assert (await wire.ask(path, "/livez")).status == 200

        process.signal(signal.SIGTERM)
        assert await process.exit_code() == 0
        assert not os.path.exists(path)


async def test_all_workers_accept_at_the_one_socket(
    tmp_path: Path, root: Path, path: str, clients: Clients
) -> None:
    with command(tmp_path, root, on(path), arguments=("--workers", "2")) as process:
        await logged(process, "serving", 2)
        one, other = children(process.popen.pid)
        for stopped in (one, other):
            os.kill(stopped, signal.SIGSTOP)
            try:
                for _ in range(3):
                    assert (await wire.ask(path, FILES, AUTH)).status == 200
            finally:
                os.kill(stopped, signal.SIGCONT)

        os.kill(one, signal.SIGKILL)
        await logged(process, "serving", 3)
        assert (await wire.ask(path, FILES, AUTH)).status == 200


@pytest.mark.parametrize("arguments", WORKERS)
async def test_a_download_under_way_is_finished_and_nobody_new_waits(
    tmp_path: Path,
    big_root: tuple[Path, str],
    path: str,
    arguments: tuple[str, ...],
    clients: Clients,
) -> None:
    root, sha256 = big_root
    with command(tmp_path, root, on(path), arguments=arguments) as process:
        download = await wire.Wire.connect(path, limit=4096)
        await download.send(wire.head(f"{FILES}/big.bin", AUTH))
        await asyncio.sleep(0.2)
        process.signal(signal.SIGTERM)
        await logged(process, "draining", len(arguments) or 1)
        await eventually(lambda: not accepts(path))

        answer = await download.answer()
        assert hashlib.sha256(answer.body).hexdigest() == sha256
        assert await process.exit_code() == 0
        await download.__aexit__()
        assert not os.path.exists(path)


def accepts(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(path) == 0


@pytest.mark.parametrize("arguments", WORKERS)
async def test_what_a_killed_gateway_left_is_replaced_and_a_live_one_refused(
    tmp_path: Path, root: Path, path: str, arguments: tuple[str, ...]
) -> None:
    with command(tmp_path, root, on(path), arguments=arguments) as process:
        process.popen.kill()
        await process.exit_code()
        await eventually(lambda: not accepts(path))
        assert os.path.exists(path)
    with command(tmp_path, root, on(path), arguments=arguments):
        second = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "serve", "-c", str(tmp_path / "gateway.yaml")),
            *arguments,
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await second.communicate()
        assert (second.returncode, said.decode()) == (
            1,
            f"server.socket: {path} is in use; choose another\n",
        )
        assert (await wire.ask(path, FILES, AUTH)).status == 200


async def test_a_reload_keeps_the_socket(tmp_path: Path, root: Path, path: str) -> None:
    with command(tmp_path, root, on(path)) as process:
        process.signal(signal.SIGHUP)
        (reloaded,) = await logged(process, "reloaded")
        assert reloaded["needs_restart"] == []
        assert (await wire.ask(path, FILES, AUTH)).status == 200


async def test_who_connects_there_is_believed_as_a_proxy(
    tmp_path: Path, root: Path, path: str
) -> None:
    """Each forwarded client is throttled for itself, although no proxy is named in the config."""
    changes = {**on(path), "limits": {"auth_failures_per_minute": 2}}
    with command(tmp_path, root, changes):

        async def status(client: str, key: str = "X-API-Key: wrong") -> int:
            return (await wire.ask(path, FILES, key, f"X-Forwarded-For: {client}")).status

        assert [await status("192.0.2.1") for _ in range(3)] == [401, 401, 429]
        assert await status("192.0.2.1", AUTH) == 429
        assert await status("192.0.2.2") == 401
        assert await status("192.0.2.2", AUTH) == 200
