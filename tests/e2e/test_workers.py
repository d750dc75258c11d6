"""Several processes on one port: they serve, count and end as one."""

import asyncio
import hashlib
import os
import re
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from tests import needs, wire
from tests.e2e.operating import (
    FILES,
    Clients,
    accepts,
    alive,
    children,
    descriptors,
    eventually,
    launched,
    log_of,
    logged,
    rewrite,
    without_descriptors,
)
from tests.gateways import AUTH, Process, command, key_entry
from tests.ports import free_port

TWO = ("--workers", "2")
OTHER_KEY = "sk_test_another"
OTHER_AUTH = f"X-API-Key: {OTHER_KEY}"
WITHOUT_OPENAT2 = """
import errno, os, sys
from tests.seccomp import OPENAT2, deny
if not deny(OPENAT2, errno.ENOSYS):
    sys.exit("no seccomp")
os.execv(sys.argv[1], sys.argv[1:])
"""


async def asked(port: int, times: int = 1, credential: str = AUTH) -> set[int]:
    """The statuses of so many requests, each on a connection of its own."""
    return {(await wire.ask(port, FILES, credential)).status for _ in range(times)}


async def counted(admin_port: int, route: str = FILES.replace("s1", "{session_id}")) -> float:
    """How many requests /metrics counts for a route with status 200."""
    text = (await wire.ask(admin_port, "/metrics")).body.decode()
    pattern = r"^workspace_gateway_http_requests_total\{(.*)\} (\S+)$"
    for labels, value in re.findall(pattern, text, re.MULTILINE):
        if f'route="{route}"' in labels and 'code="200"' in labels:
            return float(value)
    return 0.0


async def count_up_to(admin_port: int, count: float) -> None:
    """Wait until every worker has told all that it has counted."""
    async with asyncio.timeout(10):
        while await counted(admin_port) < count:
            await asyncio.sleep(0.02)


async def test_all_workers_serve_the_one_port(tmp_path: Path, root: Path, clients: Clients) -> None:
    with command(tmp_path, root, arguments=TWO) as process:
        await logged(process, "serving", 2)
        pids = children(process.popen.pid)
        before = {pid: descriptors(pid, "socket:") for pid in pids}

        for _ in range(40):
            connection = await clients.connect(process.port)
            assert (await connection.ask(FILES, AUTH)).status == 200

        gained = [descriptors(pid, "socket:") - before[pid] for pid in pids]
        assert len(gained) == 2
        assert min(gained) > 0


async def test_metrics_add_up_whichever_worker_is_asked(tmp_path: Path, root: Path) -> None:
    """Also those of a worker that has died."""
    admin = free_port()
    changes = {"server": {"admin": {"host": "127.0.0.1", "port": admin}}}
    with command(tmp_path, root, changes, arguments=TWO) as process:
        await logged(process, "serving", 2)
        assert await asked(process.port, 30) == {200}
        await count_up_to(admin, 30)
        assert {await counted(admin) for _ in range(8)} == {30.0}
        text, one = "", re.compile(r"^workspace_gateway_http_requests_in_flight 1.0$", re.MULTILINE)
        async with asyncio.timeout(10):
            while not one.search(text):
                text = (await wire.ask(admin, "/metrics")).body.decode()
        assert len(re.findall(r"^workspace_gateway_build_info\{.*\} 1.0$", text, re.MULTILINE)) == 1

        os.kill(children(process.popen.pid)[0], signal.SIGKILL)
        await logged(process, "serving", 3)

        assert {await counted(admin) for _ in range(8)} == {30.0}
        assert await asked(process.port, 10) == {200}
        await count_up_to(admin, 40)
        assert {await counted(admin) for _ in range(8)} == {40.0}


async def test_a_killed_worker_is_replaced_and_the_port_never_refuses(
    tmp_path: Path, root: Path
) -> None:
    with command(tmp_path, root, arguments=TWO) as process:
        await logged(process, "serving", 2)
        first, second = children(process.popen.pid)

        os.kill(first, signal.SIGKILL)
        await logged(process, "worker_died")
        while len(log_of(process, "serving")) < 3:
            assert await asked(process.port) == {200}

        (died,) = log_of(process, "worker_died")
        assert (died["pid"], died["code"]) == (first, -signal.SIGKILL)
        assert len(children(process.popen.pid)) == 2
        assert second in children(process.popen.pid)
        assert await asked(process.port, 20) == {200}


@pytest.mark.parametrize("to_group", [False, True])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_one_signal_drains_all_workers(
    tmp_path: Path,
    big_root: tuple[Path, str],
    clients: Clients,
    number: signal.Signals,
    to_group: bool,
) -> None:
    """Whether the parent gets it, or all of them, as from a terminal or from systemd."""
    root, digest = big_root
    with launched(tmp_path, root, None, *TWO) as process:
        await logged(process, "serving", 2)
        pids = children(process.popen.pid)
        readers = [await clients.slow(process.port, FILES + "/big.bin") for _ in range(3)]
        await logged(process, "audit.download", 3)

        if to_group:
            os.killpg(process.popen.pid, number)
        else:
            process.signal(number)
        await eventually(lambda: not accepts(process.port))
        await asyncio.sleep(0.2)

        for reader in readers:
            assert hashlib.sha256((await reader.answer()).body).hexdigest() == digest
        assert await process.exit_code() == 0
        assert not any(map(alive, pids))
        assert not log_of(process, "worker_died")


async def test_a_second_signal_ends_all_workers_at_once(
    tmp_path: Path, big_root: tuple[Path, str], clients: Clients
) -> None:
    with launched(tmp_path, big_root[0], {"server": {"drain": "60s"}}, *TWO) as process:
        await logged(process, "serving", 2)
        pids = children(process.popen.pid)
        reader = await clients.slow(process.port, FILES + "/big.bin")
        await logged(process, "audit.download")

        process.signal(signal.SIGTERM)
        await logged(process, "draining", 2)
        process.signal(signal.SIGTERM)

        assert await process.exit_code() == 0
        assert not any(map(alive, pids))
        assert (await reader.rest())[1] == "reset"


async def test_workers_do_not_outlive_their_parent(tmp_path: Path, root: Path) -> None:
    with launched(tmp_path, root, None, *TWO) as process:
        await logged(process, "serving", 2)
        pids = children(process.popen.pid)

        process.signal(signal.SIGKILL)

        await eventually(lambda: not any(map(alive, pids)))
        assert not accepts(process.port)


async def test_a_worker_that_dies_is_not_replaced_once_it_ends(tmp_path: Path, root: Path) -> None:
    """SIGTERM in the pause before the replacement: no late worker keeps the parent alive."""
    with launched(tmp_path, root, None, *TWO) as process:
        await logged(process, "serving", 2)
        os.kill(children(process.popen.pid)[0], signal.SIGKILL)
        await logged(process, "worker_died")

        process.signal(signal.SIGTERM)

        assert await process.exit_code() == 0
        assert len(log_of(process, "serving")) == 2


async def test_a_reload_reaches_every_worker_and_those_to_come(tmp_path: Path, root: Path) -> None:
    """A replacement that still knew the removed key would let its holder in again."""
    with launched(tmp_path, root, None, *TWO) as process:
        await logged(process, "serving", 2)

        rewrite(process, {"auth": {"keys": [key_entry(OTHER_KEY)]}})
        process.signal(signal.SIGHUP)
        await logged(process, "reloaded", 2)
        assert await asked(process.port, 20) == {401}
        assert await asked(process.port, 20, OTHER_AUTH) == {200}

        for pid in children(process.popen.pid):
            os.kill(pid, signal.SIGKILL)
        await logged(process, "serving", 4)
        assert await asked(process.port, 20) == {401}
        assert await asked(process.port, 20, OTHER_AUTH) == {200}


async def test_a_bad_config_is_reported_once_and_reaches_no_worker(
    tmp_path: Path, root: Path
) -> None:
    with launched(tmp_path, root, None, *TWO) as process:
        await logged(process, "serving", 2)

        rewrite(process, {"limits": {"depth": "deep"}})
        process.signal(signal.SIGHUP)
        await logged(process, "reload_failed")
        await asyncio.sleep(0.2)

        assert len(log_of(process, "reload_failed")) == 1
        assert not log_of(process, "reloaded")
        assert await asked(process.port, 20) == {200}


async def test_a_config_that_workers_refuse_reaches_no_replacement(
    tmp_path: Path, root: Path
) -> None:
    """Only a worker finds out that there is no openat2; replacements would die of it for ever."""
    launcher = (sys.executable, "-c", WITHOUT_OPENAT2)
    try:
        with command(tmp_path, root, launcher=launcher, arguments=TWO) as process:
            await logged(process, "serving", 2)

            local = {"type": "local", "root": str(root), "resolver": "openat2"}
            rewrite(process, {"executors": {"local": local}})
            process.signal(signal.SIGHUP)
            (refused,) = await logged(process, "reload_refused")
            assert sorted(refused["pids"]) == sorted(children(process.popen.pid))

            os.kill(refused["pids"][0], signal.SIGKILL)
            await logged(process, "serving", 3)
            assert await asked(process.port, 20) == {200}
            assert not log_of(process, "worker_failed")
    except AssertionError as exc:
        if "no seccomp" in str(exc):
            needs.missing("seccomp filters do not work here")
        raise


async def test_a_config_that_one_worker_refuses_reaches_no_replacement(
    tmp_path: Path, root: Path
) -> None:
    """It is said who; the next reload that all accept counts again."""
    with launched(tmp_path, root, None, *TWO) as process:
        await logged(process, "serving", 2)
        first, second = children(process.popen.pid)

        rewrite(process, {"auth": {"keys": [key_entry(OTHER_KEY)]}})
        with without_descriptors(first):
            process.signal(signal.SIGHUP)
            (refused,) = await logged(process, "reload_refused")
        assert refused["pids"] == [first]
        os.kill(second, signal.SIGKILL)
        await logged(process, "serving", 3)
        assert await asked(process.port, 20) == {200}

        process.signal(signal.SIGHUP)
        await logged(process, "reloaded", 3)
        assert await asked(process.port, 20) == {401}


async def test_a_worker_that_does_not_answer_holds_up_no_reload(tmp_path: Path, root: Path) -> None:
    """It is named, and the other's word counts; replacements and later reloads go on."""
    (tmp_path / "sitecustomize.py").write_text("import gateway.workers as w\nw._ANSWER_S = 3.0\n")
    metrics = tmp_path / "metrics"  # prometheus_client is imported before `serve` says where
    metrics.mkdir()
    environment = {
        "PYTHONPATH": f"{tmp_path}:{os.getcwd()}",
        "PROMETHEUS_MULTIPROC_DIR": str(metrics),
    }
    with launched(tmp_path, root, None, *TWO, environment=environment) as process:
        await logged(process, "serving", 2)
        stuck = children(process.popen.pid)[0]
        os.kill(stuck, signal.SIGSTOP)

        rewrite(process, {"auth": {"keys": [key_entry(OTHER_KEY)]}})
        for count in (1, 2):
            process.signal(signal.SIGHUP)
            silent = await logged(process, "worker_does_not_answer", count)
            assert silent[-1]["pid"] == stuck
            assert len(log_of(process, "reloaded")) == count

        os.kill(stuck, signal.SIGKILL)
        await logged(process, "serving", 3)
        assert await asked(process.port, 20, OTHER_AUTH) == {200}
        assert not log_of(process, "reload_refused")


async def test_workers_that_keep_dying_are_replaced_ever_more_slowly(
    tmp_path: Path, root: Path
) -> None:
    with launched(tmp_path, root, None, *TWO) as process:
        await logged(process, "serving", 2)

        for count, pause_s in ((3, 1), (4, 2)):
            since = time.monotonic()
            os.kill(children(process.popen.pid)[-1], signal.SIGKILL)
            await logged(process, "serving", count)

            assert pause_s <= time.monotonic() - since < pause_s + 0.9


async def test_reloads_in_quick_succession_lose_no_worker(tmp_path: Path, root: Path) -> None:
    """Also while a replacement is starting, whose handlers are not in place yet."""
    with launched(tmp_path, root, None, *TWO) as process:
        await logged(process, "serving", 2)
        os.kill(children(process.popen.pid)[0], signal.SIGKILL)
        for _ in range(70):
            process.signal(signal.SIGHUP)
            await asyncio.sleep(0.02)
        await logged(process, "serving", 3)
        await asyncio.sleep(0.3)

        assert len(log_of(process, "worker_died")) == 1
        assert await asked(process.port, 20) == {200}


async def test_port_0_is_one_port_for_all_workers(tmp_path: Path, root: Path) -> None:
    with launched(tmp_path, root, None, *TWO, "--port", "0") as process:
        ports = {line["port"] for line in await logged(process, "serving", 2)}

        (port,) = ports
        assert port != 0
        assert await asked(port, 20) == {200}
        process.signal(signal.SIGHUP)
        assert (await logged(process, "reloaded"))[0]["needs_restart"] == []


async def test_a_worker_that_cannot_start_ends_the_gateway(tmp_path: Path, root: Path) -> None:
    """One line each says why, and the exit code is 1."""
    (tmp_path / "sitecustomize.py").write_text(
        "import gateway.executors.local.local as local\n"
        "from gateway.domain.errors import Unavailable\n"
        "def choose(*_): raise Unavailable('no way to resolve paths')\n"
        "local.choose = choose\n"
    )
    environment = {"PYTHONPATH": f"{tmp_path}:{os.getcwd()}"}
    with launched(tmp_path, root, None, *TWO, environment=environment) as process:
        assert await process.exit_code() == 1

    failed = log_of(process, "worker_failed")
    assert {line["reason"] for line in failed} == {"no way to resolve paths"}
    assert "Traceback" not in process.log.read_text()


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("abstract", [False, True])
async def test_systemd_is_told(tmp_path: Path, root: Path, workers: str, abstract: bool) -> None:
    """sd_notify(3), with the monotonic time that Type=notify-reload asks for."""
    address = str(tmp_path / "notify")
    name = f"@workspace-gateway-{tmp_path}" if abstract else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind("\0" + name[1:] if abstract else name)
        told.setblocking(False)

        async def said() -> str:
            loop = asyncio.get_running_loop()
            return (await asyncio.wait_for(loop.sock_recv(told, 4096), 20)).decode()

        with launched(
            tmp_path, root, None, "--workers", workers, environment={"NOTIFY_SOCKET": name}
        ) as process:
            assert await said() == "READY=1"
            assert await asked(process.port, 5) == {200}
            for changes in ({}, {"limits": {"depth": "deep"}}):
                rewrite(process, changes)
                process.signal(signal.SIGHUP)
                assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", await said())
                assert await said() == "READY=1"
            process.signal(signal.SIGTERM)
            assert await said() == "STOPPING=1"
            assert await process.exit_code() == 0
            with pytest.raises(BlockingIOError):
                told.recv(4096)


async def test_a_systemd_that_does_not_listen_is_no_reason_to_fail(
    tmp_path: Path, root: Path
) -> None:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "nobody")}
    with launched(tmp_path, root, environment=environment) as process:
        await logged(process, "systemd_not_told")
        assert await asked(process.port) == {200}


def test_the_helper_processes_are_plain(served: Process) -> None:
    """One worker is no reason for a parent: it serves in the process that was started."""
    assert children(served.popen.pid) == []
