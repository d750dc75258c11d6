"""From the start to the last byte: what clients see while the gateway comes and goes."""

import asyncio
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.listeners import bind
from gateway.server import Generation
from tests import wire
from tests.conftest import ResolverName
from tests.e2e.operating import (
    BIG,
    FILES,
    Clients,
    accepts,
    eventually,
    launched,
    launched_without_config,
    log_of,
    logged,
)
from tests.gateways import (
    AUTH,
    Process,
    command,
    config_for,
    key_entry,
    resolved_by,
    running,
)
from tests.heads import MISREAD, SMUGGLED
from tests.wire import head

SMALL = 250 * 1024  # bytes: sent in one go
MANY = 30  # such answers are more than the kernel takes for a reader that does not read


async def test_running_downloads_survive_sigterm(
    tmp_path: Path, big_root: tuple[Path, str], resolver: ResolverName, clients: Clients
) -> None:
    """Row 40: unready at once, serving in the grace, then closed; what runs is completed."""
    root, digest = big_root
    changes = {"server": {"grace": "3s", "drain": "60s"}, **resolved_by(resolver)}
    with command(tmp_path, root, changes) as process:
        slow = [await clients.slow(process.port, FILES + "/big.bin") for _ in range(3)]
        idle = await clients.connect(process.port)
        assert (await idle.ask("/readyz")).status == 200

        process.signal(signal.SIGTERM)
        await logged(process, "draining")

        in_grace = await wire.ask(process.port, "/readyz")
        assert (in_grace.status, in_grace.json["status"]) == (503, "draining")
        for answer in (await wire.ask(process.port, FILES, AUTH), await idle.ask(FILES, AUTH)):
            assert (answer.status, answer.header("Connection")) == (200, "close")
        assert await idle.rest() == (b"", "closed")
        assert accepts(process.port), "the grace is not over"
        await eventually(lambda: not accepts(process.port))
        for one in slow:
            answer = await one.answer()
            assert answer.complete
            assert hashlib.sha256(answer.body).hexdigest() == digest
        assert await process.exit_code() == 0


async def test_misleading_heads_are_refused_before_and_after_sigterm(
    tmp_path: Path, root: Path, resolver: ResolverName, clients: Clients
) -> None:
    """Row 40: a gateway that is about to end is no easier to fool."""
    for session in ("s1", "s2"):
        (root / session).mkdir(exist_ok=True)
        (root / session / "file").write_bytes(b"SECRET-CANARY")

    async def refused(port: int, fields: str) -> bool:
        connection = await clients.connect(port)
        request = f"GET {FILES}/file HTTP/1.1\r\n{fields}{SMUGGLED}"
        await connection.send(request.encode("latin-1"))
        data, end = await connection.rest(3)
        is_400 = data.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
        return is_400 and data.count(b"HTTP/1.") == 1 and end != "open"

    changes = {"server": {"grace": "30s"}, **resolved_by(resolver)}
    with command(tmp_path, root, changes) as process:
        before = [name for name, fields in MISREAD.items() if await refused(process.port, fields)]
        process.signal(signal.SIGTERM)
        await logged(process, "draining")
        after = [name for name, fields in MISREAD.items() if await refused(process.port, fields)]
        assert (await wire.ask(process.port, "/readyz")).status == 503
        process.signal(signal.SIGQUIT)
        assert await process.exit_code() == 0

    assert before == after == list(MISREAD)


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_a_download_over_the_drain_limit_is_visibly_broken(
    tmp_path: Path,
    big_root: tuple[Path, str],
    resolver: ResolverName,
    version: str,
    clients: Clients,
) -> None:
    """Row 40: a reset, no clean end; HTTP/1.0 clients may take that for a complete file."""
    changes = {"server": {"drain": "1s"}, **resolved_by(resolver)}
    with command(tmp_path, big_root[0], changes) as process:
        reader = await clients.slow(process.port, FILES + "/big.bin", version)
        await logged(process, "audit.download")

        since = time.monotonic()
        process.signal(signal.SIGTERM)

        assert await process.exit_code() == 0
        assert 0.9 < time.monotonic() - since < 4
        data, end = await reader.rest()
        assert end == "reset"
        assert len(data) < BIG


async def test_the_tail_of_small_answers_leaves_before_the_exit(
    tmp_path: Path, root: Path, clients: Clients
) -> None:
    """What the handler has written, and the client not yet read, is waited for."""
    content = os.urandom(SMALL)
    (root / "s1" / "small.bin").write_bytes(content)
    with command(tmp_path, root) as process:
        reader = await clients.slow(process.port, FILES + "/small.bin", times=MANY)
        await logged(process, "audit.download", 5)
        await asyncio.sleep(0.2)

        process.signal(signal.SIGTERM)
        await eventually(lambda: not accepts(process.port))
        await asyncio.sleep(0.5)

        begun = len(log_of(process, "audit.download"))
        assert begun < MANY
        answers = [await reader.answer() for _ in range(begun + 1)]
        assert all(answer.complete and answer.body == content for answer in answers)
        said = [answer.header("Connection") for answer in answers]
        assert said == [None] * begun + ["close"], "none but the last had heard of the end"
        assert await reader.rest() == (b"", "closed")
        assert await process.exit_code() == 0


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("size", [SMALL, 8 * SMALL])
async def test_it_stays_until_all_that_is_sent_has_arrived(
    tmp_path: Path, root: Path, clients: Clients, size: int, workers: int
) -> None:
    """With a container's last process its network ends, and what the kernel has yet to send."""
    content = os.urandom(size)
    (root / "s1" / "file").write_bytes(content)
    with command(tmp_path, root, {"server": {"workers": workers}}) as process:
        reader = await clients.slow(process.port, FILES + "/file")
        (line,) = await logged(process, "http_request")
        assert (line["outcome"], line["bytes_sent"]) == ("ok", size)

        process.signal(signal.SIGTERM)
        await eventually(lambda: not accepts(process.port))
        await asyncio.sleep(1)

        assert process.popen.poll() is None
        answer = await reader.answer()
        assert (answer.complete, answer.body) == (True, content)
        assert await reader.rest() == (b"", "closed")
        assert await process.exit_code() == 0


async def test_what_is_complete_at_the_drain_limit_is_left_to_the_kernel(
    tmp_path: Path, root: Path, clients: Clients
) -> None:
    content = os.urandom(SMALL)
    (root / "s1" / "file").write_bytes(content)
    with command(tmp_path, root, {"server": {"drain": "1s"}}) as process:
        reader = await clients.slow(process.port, FILES + "/file")
        await logged(process, "http_request")

        process.signal(signal.SIGTERM)
        assert await process.exit_code() == 0

        answer = await reader.answer()
        assert (answer.complete, answer.body) == (True, content)


async def test_a_reader_that_takes_nothing_holds_up_the_exit_no_longer_than_it_may(
    tmp_path: Path, root: Path, clients: Clients
) -> None:
    (root / "s1" / "file").write_bytes(bytes(SMALL))
    changes = {"server": {"idle_timeout": "600ms", "drain": "60s"}}
    with command(tmp_path, root, changes) as process:
        reader = await clients.slow(process.port, FILES + "/file")
        await logged(process, "http_request")

        process.signal(signal.SIGTERM)

        assert await process.exit_code() == 0
        assert (await reader.rest())[1] == "reset"


async def test_the_tail_of_a_listing_leaves_before_the_exit(
    tmp_path: Path, root: Path, resolver: ResolverName, clients: Clients
) -> None:
    """The last chunk too, without which the client takes the listing for broken."""
    for number in range(6000):
        (root / "s1" / f"{number:0200}").touch()
    with command(tmp_path, root, resolved_by(resolver)) as process:
        reader = await clients.slow(process.port, FILES)
        await asyncio.sleep(0.5)

        process.signal(signal.SIGTERM)
        await eventually(lambda: not accepts(process.port))
        await asyncio.sleep(0.2)

        answer = await reader.answer()
        assert answer.complete
        assert len(answer.json["files"]) == 6000
        assert await process.exit_code() == 0


async def test_a_client_that_has_just_come_gets_an_answer(
    served: Process, clients: Clients
) -> None:
    """Its connection was accepted: no proxy could know that it should have asked another."""
    late, late_and_slow = await clients.connect(served.port), await clients.connect(served.port)
    await late_and_slow.send(head(FILES, AUTH)[:30])
    await asyncio.sleep(0.1)

    served.signal(signal.SIGTERM)
    await logged(served, "draining")
    await late_and_slow.send(head(FILES, AUTH)[30:])

    for answer in (await late.ask(FILES, AUTH), await late_and_slow.answer()):
        assert answer.status == 200
        assert answer.header("Connection") == "close"
    assert await late.rest() == (b"", "closed")
    assert await served.exit_code() == 0


async def test_a_request_that_is_on_its_way_is_answered(
    tmp_path: Path, big_root: tuple[Path, str], clients: Clients
) -> None:
    """A proxy that has sent a POST may not ask another gateway."""
    with command(tmp_path, big_root[0]) as process:
        idle, late = await clients.connect(process.port), await clients.connect(process.port)
        reader = await clients.slow(process.port, FILES + "/big.bin")
        for one in (idle, late):
            assert (await one.ask(FILES, AUTH)).header("Connection") is None
        await logged(process, "audit.download")

        process.signal(signal.SIGTERM)
        await logged(process, "draining")

        on_its_way = await late.ask(FILES, AUTH)
        assert (on_its_way.status, on_its_way.header("Connection")) == (200, "close")
        for one in (late, idle):
            assert await one.rest() == (b"", "closed")
        await reader.send(head(FILES, AUTH))  # while it has yet to take its file
        assert (await reader.answer()).complete
        on_its_way = await reader.answer()
        assert (on_its_way.status, on_its_way.header("Connection")) == (200, "close")
        assert await process.exit_code() == 0


async def test_clients_that_nobody_has_accepted_yet_get_answers(root: Path) -> None:
    """Many come in the moment in which it ends; it has had no turn to see them."""
    async with running(root) as gateway:
        clients = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(20)]
        for client in clients:
            client.sendall(head("/livez"))
        began = time.monotonic()

    assert time.monotonic() - began < 5, "a connection was forgotten"
    for client in clients:
        with client, client.makefile("rb") as answer:
            assert answer.readline() == b"HTTP/1.1 200 OK\r\n"


async def test_silent_connections_do_not_hold_up_the_exit(
    served: Process, clients: Clients
) -> None:
    """Browsers open connections in advance; such a one says nothing for minutes."""
    silent = await clients.connect(served.port)

    served.signal(signal.SIGTERM)
    since = time.monotonic()

    assert await served.exit_code() == 0
    assert time.monotonic() - since < 5  # after half a second on an idle machine
    assert await silent.rest() == (b"", "closed")


async def test_sigint_drains_without_grace(
    tmp_path: Path, big_root: tuple[Path, str], clients: Clients
) -> None:
    """Who presses Ctrl-C has no load balancer that needs time."""
    root, digest = big_root
    with command(tmp_path, root, {"server": {"grace": "60s"}}) as process:
        reader = await clients.slow(process.port, FILES + "/big.bin")
        await logged(process, "audit.download")

        process.signal(signal.SIGINT)

        await eventually(lambda: not accepts(process.port))
        assert hashlib.sha256((await reader.answer()).body).hexdigest() == digest
        assert await process.exit_code() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_without_a_config_sighup_drains(
    tmp_path: Path, big_root: tuple[Path, str], clients: Clients, workers: str
) -> None:
    """The terminal is gone; shells and kernels may say so twice, which is no hurry."""
    root, digest = big_root
    with launched_without_config(tmp_path, root, "--workers", workers) as process:
        await logged(process, "serving", int(workers))
        reader = await clients.slow(process.port, FILES + "/big.bin")
        await logged(process, "audit.download")

        os.killpg(process.popen.pid, signal.SIGHUP)
        await logged(process, "draining", int(workers))
        os.killpg(process.popen.pid, signal.SIGHUP)
        await eventually(lambda: not accepts(process.port))

        assert hashlib.sha256((await reader.answer()).body).hexdigest() == digest
        assert await process.exit_code() == 0
        assert not log_of(process, "ending_at_once")
        assert not log_of(process, "worker_died")


@pytest.mark.parametrize(
    ("first", "second", "grace"),
    [
        (signal.SIGTERM, signal.SIGTERM, "30s"),
        (signal.SIGTERM, signal.SIGTERM, "0s"),
        (signal.SIGTERM, signal.SIGINT, "30s"),
        (signal.SIGINT, signal.SIGINT, "30s"),
        (signal.SIGQUIT, None, "30s"),
    ],
)
async def test_a_second_signal_ends_it_at_once(
    tmp_path: Path,
    big_root: tuple[Path, str],
    first: signal.Signals,
    second: signal.Signals | None,
    grace: str,
    clients: Clients,
) -> None:
    """In the grace as well as while downloads run."""
    changes = {"server": {"grace": grace, "drain": "30s"}}
    with command(tmp_path, big_root[0], changes) as process:
        reader = await clients.slow(process.port, FILES + "/big.bin")
        await logged(process, "audit.download")

        process.signal(first)
        if second is not None:
            await logged(process, "draining")
            await asyncio.sleep(0.1)
            process.signal(second)

        assert await process.exit_code() == 0
        assert (await reader.rest())[1] == "reset"


async def test_a_second_signal_counts_also_while_a_config_is_read(
    tmp_path: Path, root: Path
) -> None:
    keys = [key_entry(str(number), id=f"key-{number}") for number in range(2000)]
    changes = {"server": {"grace": "30s"}, "auth": {"keys": keys}}
    with command(tmp_path, root, changes) as process:
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT):
            process.signal(number)
            await asyncio.sleep(0.1)

        assert await process.exit_code() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("after_s", [0.2, 0.5])
async def test_sigterm_during_the_start_ends_it(
    tmp_path: Path, root: Path, after_s: float, workers: str
) -> None:
    """Whether by the signal's own doing or by draining: soon, and without a traceback."""
    with launched(tmp_path, root, None, "--workers", workers) as process:
        await asyncio.sleep(after_s)

        process.signal(signal.SIGTERM)

        assert await process.exit_code() in (0, -signal.SIGTERM)
        assert "Traceback" not in process.log.read_text()


@pytest.mark.parametrize("redirection", ["2>&-", "<&- >&- 2>&-", "2>/dev/full"])
async def test_a_log_that_nobody_takes_breaks_no_request(
    tmp_path: Path, root: Path, redirection: str, clients: Clients
) -> None:
    """And no client's socket becomes standard error."""
    (root / "s1" / "a.txt").write_bytes(b"a")
    launcher = ("sh", "-c", f'exec "$@" {redirection}', "sh")
    with command(tmp_path, root, launcher=launcher) as process:
        connection = await clients.connect(process.port)
        for _ in range(5):
            assert (await connection.ask(FILES + "/a.txt", AUTH)).body == b"a"

        process.signal(signal.SIGTERM)
        assert await process.exit_code() == 0


@pytest.mark.parametrize("gone", [True, False])
async def test_a_full_or_broken_log_pipe_stops_nobody(
    tmp_path: Path, root: Path, gone: bool, clients: Clients
) -> None:
    """The reader of the pipe has ended, or hangs; what is lost is said once it reads again."""
    reads, writes = os.pipe()
    with launched(tmp_path, root, stderr=writes) as process:
        os.close(writes)
        if gone:
            os.close(reads)
        await eventually(lambda: accepts(process.port))

        connection = await clients.connect(process.port)
        for _ in range(400):
            assert (await connection.ask(FILES, AUTH)).status == 200
        if not gone:
            os.set_blocking(reads, False)
            assert len(os.read(reads, 1 << 20)) > 50_000
            await wire.ask(process.port, FILES, AUTH)
            later = os.read(reads, 1 << 20).splitlines()
            assert any(b'"log_lines_lost"' in line for line in later)
            os.close(reads)

        process.signal(signal.SIGTERM)
        assert await process.exit_code() == 0


async def test_idle_connections_are_closed_at_the_keepalive_timeout(
    root: Path, clients: Clients
) -> None:
    """Before the first request, and after one."""
    async with running(root, {"server": {"keepalive_timeout": "600ms"}}) as gateway:
        fresh, used = await clients.connect(gateway.port), await clients.connect(gateway.port)
        since = time.monotonic()
        await used.ask(FILES, AUTH)

        assert await used.rest() == (b"", "closed")
        assert time.monotonic() - since > 0.5
        assert await fresh.rest() == (b"", "closed")


async def test_the_header_timeout_holds_for_every_request_of_a_connection(
    root: Path, resolver: ResolverName, clients: Clients
) -> None:
    """Row 37: not only for the first; bytes that drip in do not extend it."""
    server = {"header_timeout": "600ms", "keepalive_timeout": "30s"}
    async with running(root, {"server": server, **resolved_by(resolver)}) as gateway:
        connection = await clients.connect(gateway.port)
        await connection.ask(FILES, AUTH)
        await asyncio.sleep(0.8)
        assert (await connection.ask(FILES, AUTH)).status == 200

        since = time.monotonic()
        ending = asyncio.create_task(connection.rest())
        for byte in head(FILES, AUTH)[:60]:  # for longer than `rest` waits
            if ending.done():
                break
            connection.writer.write(bytes([byte]))
            await asyncio.sleep(0.1)

        data, end = await ending
        assert data == b""
        assert end in ("closed", "reset")
        assert time.monotonic() - since > 0.5


async def test_a_reader_that_never_takes_small_answers_is_cut_off(
    root: Path, resolver: ResolverName, clients: Clients
) -> None:
    """Row 38 for answers that are written in one go: no handler waits, but memory does."""
    (root / "s1" / "small.bin").write_bytes(bytes(SMALL))
    changes = {"server": {"idle_timeout": "600ms"}, **resolved_by(resolver)}
    async with running(root, changes) as gateway:
        reader = await clients.slow(gateway.port, FILES + "/small.bin", times=MANY)
        await asyncio.sleep(1.8)

        data, end = await reader.rest()

        assert end == "reset"
        assert len(data) < MANY * SMALL


async def test_a_reader_that_is_merely_slow_gets_small_answers(
    root: Path, resolver: ResolverName, clients: Clients
) -> None:
    """What counts is that it takes something now and then."""
    (root / "s1" / "small.bin").write_bytes(bytes(SMALL))
    changes = {"server": {"idle_timeout": "1s"}, **resolved_by(resolver)}
    async with running(root, changes) as gateway:
        reader = await clients.slow(gateway.port, FILES + "/small.bin", times=MANY)
        size = 0
        for _ in range(20):
            await asyncio.sleep(0.1)
            size += len((await reader.answer()).body)
        for _ in range(MANY - 20):
            size += len((await reader.answer()).body)

        assert size == MANY * SMALL


async def test_it_is_ready_in_a_second(tmp_path: Path, root: Path) -> None:
    """Measured 0.6 s on an idle machine; the bound leaves room for busy ones."""
    since = time.monotonic()
    with launched(tmp_path, root) as process:
        await eventually(lambda: accepts(process.port))
        assert (await wire.ask(process.port, "/readyz")).status == 200
        took_s = time.monotonic() - since

    print(f"start to ready: {took_s:.2f} s")
    assert took_s < 5


async def test_a_taken_port_ends_the_start_with_one_line(
    tmp_path: Path, served: Process, root: Path
) -> None:
    """It names the setting, the address, and what to do."""
    (tmp_path / "other").mkdir()
    for workers in ("1", "2"):
        changes = {"server": {"port": served.port}}
        with launched(tmp_path / "other", root, changes, "--workers", workers) as process:
            assert await process.exit_code() == 1

        assert process.log.read_text() == (
            f"server.port: 127.0.0.1:{served.port} is in use; choose another\n"
        )


async def test_who_begins_to_listen_during_the_start_is_noticed(root: Path) -> None:
    """What does not listen must not say that it serves."""
    (ours,) = bind("127.0.0.1", 0, "server.port", shared=False)
    generation = Generation(config_for(root))
    with ours, socket.socket() as theirs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        theirs.bind(ours.getsockname())
        theirs.listen()

        with pytest.raises(OSError, match="in use"):
            await generation.start([ours], [])
    await generation.retire()


def test_serving_imports_no_development_tools() -> None:
    """Start-up time is import time."""
    code = "import sys, gateway.server; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert not {"pytest", "hypothesis", "mypy", "IPython"} & set(loaded)
    assert "gateway.server" in loaded
