"""The sockets the gateway listens on."""

import errno
import socket
from collections.abc import Sequence

from gateway.config.model import Config


class PortTaken(Exception):
    """Another program listens there; the message says where and which setting to change."""


def bind(host: str, port: int, setting: str, *, shared: bool) -> list[socket.socket]:
    """Bind (not listen) to every address of *host*; port 0 takes one free port for all of them.

    *shared* sockets let other processes bind the same port (`SO_REUSEPORT`). Raise `PortTaken`.
    """
    bound: list[socket.socket] = []
    try:
        for family, _, _, _, address in _addresses(host, port):
            sock = socket.socket(family, socket.SOCK_STREAM)
            bound.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((address[0], port, *address[2:]))
            sock.setblocking(False)
            port = sock.getsockname()[1]
    except OSError as exc:
        for sock in bound:
            sock.close()
        reason = "is in use" if exc.errno == errno.EADDRINUSE else f"cannot be used: {exc.strerror}"
        raise PortTaken(f"{setting}: {host}:{port} {reason}; choose another") from exc
    return bound


def with_free_ports(config: Config) -> Config:
    """*config* with the ports that 0 stands for; raise `PortTaken` if a port is not to be had."""
    server = config.server
    port = _claim(server.host, server.port, "server.port")
    changes: dict[str, object] = {"port": port}
    if server.admin is not None:
        admin_port = _claim(server.admin.host, server.admin.port, "server.admin.port")
        changes["admin"] = server.admin.model_copy(update={"port": admin_port})
    return config.model_copy(update={"server": server.model_copy(update=changes)})


def _claim(host: str, port: int, setting: str) -> int:
    sockets = bind(host, port, setting, shared=False)
    claimed: int = sockets[0].getsockname()[1]
    for sock in sockets:
        sock.close()
    return claimed


def _addresses(host: str, port: int) -> Sequence[tuple[int, int, int, str, tuple[object, ...]]]:
    return socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
