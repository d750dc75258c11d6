"""Sockets to listen on."""

import socket
from contextlib import ExitStack
from typing import Any

import pytest

from gateway.config.model import Config
from gateway.listeners import PortTaken, bind, with_held_ports, with_listeners_of
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


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
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
    ],
)
def test_a_running_gateway_listens_where_it_did(
    old: dict[str, Any], new: dict[str, Any], needs_restart: list[str]
) -> None:
    started = config(**{"port": 80, **old})
    following, said = with_listeners_of(started, config(**{"port": 80, **new}))

    assert said == needs_restart
    for name in ("host", "port", "workers", "admin"):
        assert getattr(following.server, name) == getattr(started.server, name)
    assert following.server.drain == config(**{"port": 80, **new}).server.drain
