"""The sockets the gateway listens on."""

import errno
import socket
from collections.abc import Sequence
from contextlib import ExitStack

from gateway.config.model import Config, Server


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


def with_held_ports(config: Config, stack: ExitStack) -> Config:
    """*config* with the ports that 0 stands for; raise `PortTaken` if a port is not to be had.

    Until *stack* is closed nobody but this process and its children can take them.
    """
    server = config.server
    changes: dict[str, object] = {
        "port": _held(server.host, server.port, "server.port", stack),
    }
    if server.admin is not None:
        admin_port = _held(server.admin.host, server.admin.port, "server.admin.port", stack)
        changes["admin"] = server.admin.model_copy(update={"port": admin_port})
    return config.model_copy(update={"server": server.model_copy(update=changes)})


def with_listeners_of(started: Config, config: Config) -> tuple[Config, list[str]]:
    """*config* listening where *started* does, and the names of what a restart would change."""
    old, new = started.server, config.server
    kept = {name: getattr(old, name) for name in ("host", "port", "workers", "admin")}
    following = config.model_copy(update={"server": new.model_copy(update=kept)})
    return following, [f"server.{name}" for name in kept if _differs(name, old, new)]


def _differs(name: str, old: Server, new: Server) -> bool:
    if name == "port":
        return new.port not in (0, old.port)
    if name == "admin" and old.admin is not None and new.admin is not None:
        return new.admin.host != old.admin.host or new.admin.port not in (0, old.admin.port)
    return bool(getattr(old, name) != getattr(new, name))


def _held(host: str, port: int, setting: str, stack: ExitStack) -> int:
    sockets = bind(host, port, setting, shared=False)
    for sock in sockets:
        stack.enter_context(sock)
        # After the exclusive bind: from now on others of ours may bind it, too (measured).
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held: int = sockets[0].getsockname()[1]
    return held


def _addresses(host: str, port: int) -> Sequence[tuple[int, int, int, str, tuple[object, ...]]]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
