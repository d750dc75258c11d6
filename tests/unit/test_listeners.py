"""Sockets to listen on."""

import asyncio
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gateway.cli.config_file import ExecutorModels
from gateway.config.load import from_mapping
from gateway.config.model import Config
from gateway.listeners import (
    PortTaken,
    Tcp,
    Unix,
    accepted,
    bind,
    bound,
    main_address,
    parse_address,
    with_held_ports,
    with_listeners_of,
)
from tests.gateways import config_for

HERE = "127.0.0.1"


def config(**server: Any) -> Config:
    return config_for("/srv", {"server": server})


def close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def test_port_0_is_the_same_on_every_address() -> None:
    sockets = bind("localhost", 0, "server.port", shared=False)

    ports = {sock.getsockname()[1] for sock in sockets}

    assert len(ports) == 1
    assert ports != {0}
    close(sockets)


def test_a_taken_port_is_one_sentence() -> None:
    with socket.create_server((HERE, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTaken) as taken:
            bind(HERE, port, "server.port", shared=False)

    assert str(taken.value) == f"server.port: {HERE}:{port} is in use; choose another"


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "a..b", "a" * 64 + ".b"])
def test_an_address_that_is_not_here_is_one_sentence(host: str) -> None:
    with pytest.raises(PortTaken, match=rf"server\.port: {host}:8080 cannot be used: ."):
        bind(host, 8080, "server.port", shared=False)


def test_held_ports_are_for_our_processes_only() -> None:
    """From the moment in which they were found free."""
    admin = {"host": HERE, "port": 0}
    with ExitStack() as stack:
        held = with_held_ports(config(port=0, admin=admin), stack).server
        assert held.admin is not None
        for port in (held.port, held.admin.port):
            first = bind(HERE, port, "server.port", shared=True)
            second = bind(HERE, port, "server.port", shared=True)
            for sock in (*first, *second):
                sock.listen()
            with pytest.raises(PortTaken):
                bind(HERE, port, "server.port", shared=False)
            socket.create_connection((HERE, port)).close()
            close([*first, *second])

    close(bind(HERE, held.port, "server.port", shared=False))


def test_a_port_that_is_taken_cannot_be_held() -> None:
    with (
        socket.create_server((HERE, 0)) as other,
        ExitStack() as stack,
        pytest.raises(PortTaken),
    ):
        with_held_ports(config(port=other.getsockname()[1]), stack)


ADMIN = {"host": HERE, "port": 9090}


@pytest.mark.parametrize(
    ("old", "new", "needs_restart"),
    [
        ({"port": 80}, {"port": 80}, []),
        ({"port": 80}, {"port": 81}, ["server.port"]),
        ({"port": 80}, {"port": 0}, []),
        ({"host": HERE}, {"host": "::1"}, ["server.host"]),
        ({"workers": 1}, {"workers": 2}, ["server.workers"]),
        ({}, {"admin": ADMIN}, ["server.admin"]),
        ({"admin": ADMIN}, {}, ["server.admin"]),
        ({"admin": ADMIN}, {"admin": {**ADMIN, "port": 0}}, []),
        ({"admin": ADMIN}, {"admin": {**ADMIN, "port": 9091}}, ["server.admin"]),
        ({"drain": "1s"}, {"drain": "2s"}, []),
        ({"socket": "/a"}, {"socket": "/b"}, ["server.socket"]),
        ({"socket": "/a"}, {"socket": "/a", "socket_mode": "0600"}, ["server.socket_mode"]),
        ({}, {"socket": "/a"}, ["server.port", "server.socket"]),
    ],
)
def test_a_running_gateway_listens_where_it_did(
    old: dict[str, Any], new: dict[str, Any], needs_restart: list[str]
) -> None:
    started, wanted = on_port_80(old), on_port_80(new)
    following, said = with_listeners_of(started, wanted)

    assert said == needs_restart
    for name in ("host", "port", "socket", "socket_mode", "workers", "admin"):
        assert getattr(following.server, name) == getattr(started.server, name)
    assert following.server.drain == wanted.server.drain


def on_port_80(server: dict[str, Any]) -> Config:
    return from_mapping(
        {
            "server": server if "socket" in server else {"port": 80, **server},
            "executors": {"local": {"type": "local", "root": "/srv"}},
        },
        ExecutorModels(),
        "test",
    )


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("tcp:127.0.0.1:8080", Tcp("127.0.0.1", 8080)),
        ("tcp:[::1]:0", Tcp("::1", 0)),
        ("tcp:localhost:65535", Tcp("localhost", 65535)),
        ("unix:/run/x:y.sock", Unix("/run/x:y.sock")),
        ("unix:x.sock", Unix("x.sock")),
    ],
)
def test_an_address_is_read(text: str, address: Tcp | Unix) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unix:",
        "tcp:",
        "tcp:80",
        "tcp::80",
        "tcp:h:",
        "tcp:h:x",
        "tcp:h:65536",
        "tcp:h:-1",
        "/x",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no address such as"):
        parse_address(text)


def test_a_config_with_a_socket_listens_there() -> None:
    server = on_port_80({"socket": "/run/x.sock", "socket_mode": "600"}).server

    assert main_address(server) == Unix("/run/x.sock", 0o600)
    assert main_address(on_port_80({}).server) == Tcp(HERE, 80)


def accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(str(path))
        except ConnectionRefusedError:
            return False
    return True


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_a_socket_file_has_its_mode_and_goes_with_the_socket(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "s"

    with bound(Unix(str(path), mode), "server.socket", shared=False) as sockets:
        assert len(sockets) == 1
        assert accepts(path)
        assert stat.S_IMODE(path.stat().st_mode) == mode

    assert os.listdir(tmp_path) == []


def test_the_file_of_a_process_that_died_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    code = f"import socket; s = socket.socket(socket.AF_UNIX); s.bind({str(path)!r}); s.listen()"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert not accepts(path)

    with bound(Unix(str(path)), "server.socket", shared=False):
        assert accepts(path)


def test_a_live_socket_is_refused_and_lives_on(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with bound(Unix(str(path)), "server.socket", shared=False):
        with (
            pytest.raises(PortTaken) as taken,
            bound(Unix(str(path)), "server.socket", shared=False),
        ):
            pass
        assert str(taken.value) == f"server.socket: {path} is in use; choose another"
        assert accepts(path)


def test_a_live_socket_whose_backlog_is_full_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as busy, ExitStack() as waiting:
        busy.bind(str(path))
        busy.listen(0)
        for _ in range(2):
            client = waiting.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            client.connect_ex(str(path))
        with (
            pytest.raises(PortTaken, match="is in use"),
            bound(Unix(str(path)), "server.socket", shared=False),
        ):
            pass
        assert path.is_socket()


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_nothing_but_a_socket_is_replaced(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "s"
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "elsewhere")
    before = path.lstat()

    with (
        pytest.raises(PortTaken, match="cannot be used: a file that is no socket is there"),
        bound(Unix(str(path)), "server.socket", shared=False),
    ):
        pass

    assert path.lstat() == before


def test_a_missing_directory_is_one_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(PortTaken, match=r"none/s cannot be used: No such file or directory; choose"),
        bound(Unix(str(tmp_path / "none" / "s")), "server.socket", shared=False),
    ):
        pass


def test_a_path_too_long_for_a_socket_is_one_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(PortTaken, match=r"x cannot be used: AF_UNIX path too long; choose another$"),
        bound(Unix(str(tmp_path / ("x" * 108))), "--listen", shared=False),
    ):
        pass


def test_the_file_of_a_successor_is_left_alone(tmp_path: Path) -> None:
    """Whoever drains is still there when the next one listens already."""
    path = tmp_path / "s"
    with ExitStack() as next_one:
        with bound(Unix(str(path)), "server.socket", shared=False) as (sock,):
            sock.close()
            next_one.enter_context(bound(Unix(str(path)), "server.socket", shared=False))
        assert accepts(path)


def test_of_many_that_start_at_once_one_listens(tmp_path: Path) -> None:
    path = tmp_path / "s"
    code = f"""
import sys
from gateway.listeners import PortTaken, Unix, bound
sys.stdin.readline()
try:
    with bound(Unix({str(path)!r}), "server.socket", shared=False):
        print("listens", flush=True)
        sys.stdin.readline()
except PortTaken:
    print("refused", flush=True)
"""
    with ExitStack() as stack:
        pipe = subprocess.PIPE
        starters = [
            stack.enter_context(
                subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True)
            )
            for _ in range(8)
        ]
        for starter in starters:
            assert starter.stdin is not None
            starter.stdin.write("go\n")
            starter.stdin.flush()
        said = [starter.stdout.readline() for starter in starters if starter.stdout]

    assert sorted(said) == ["listens\n", *["refused\n"] * 7]


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_whoever_has_connected_has_begun_once_all_are_accepted(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """Who stops to listen then knows everybody who is still to be answered."""
    begun = []

    class Begins(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            begun.append(transport)
            transport.close()

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Begins, "127.0.0.1", 0)
        async with server:
            for count in (1, 2, 3):
                with closing(socket.create_connection(server.sockets[0].getsockname())):
                    await accepted([server])
                    assert len(begun) == count

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())
