"""The sockets the gateway listens on."""

import asyncio
import errno
import fcntl
import os
import re
import select
import socket
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple

from gateway.config.model import Config
from gateway.config.server import Server

BACKLOG = 1024

_VSOCK_PORT = re.compile(r"[1-9][0-9]{0,9}")
_MOST_VSOCK_PORT = 2**32 - 2  # VMADDR_PORT_ANY is one more
_ACCEPTING_S = 1.0
_BEGINNING = 4  # turns of the loop, after which what was accepted has its protocol
_SETTING_UP_S = 5.0  # another process may be about to listen in the same directory


class PortTaken(Exception):
    """Another program listens there; the message says where and which setting to change."""


class Tcp(NamedTuple):
    """Every address of *host*; port 0 is one free port for all of them."""

    host: str
    port: int


class Unix(NamedTuple):
    """A socket file; whoever may write to it may connect."""

    path: str
    mode: int = 0o660


class Vsock(NamedTuple):
    """A port inside a virtual machine, which its host reaches (vsock(7))."""

    port: int


Address = Tcp | Unix | Vsock


def parse_address(text: str) -> Address:
    """Return what `tcp:HOST:PORT`, `unix:PATH` or `vsock:PORT` says.

    An IPv6 host stands in brackets: `tcp:[::1]:8080`. Raise ValueError, which says what is wrong.
    """
    scheme, _, rest = text.partition(":")
    if scheme == "vsock" and _VSOCK_PORT.fullmatch(rest) and int(rest) <= _MOST_VSOCK_PORT:
        return Vsock(int(rest))
    if scheme == "unix" and rest:
        return Unix(rest)
    host, _, port = rest.rpartition(":")
    if scheme == "tcp" and host and port.isascii() and port.isdecimal() and int(port) <= 65535:
        return Tcp(host.removeprefix("[").removesuffix("]"), int(port))
    raise ValueError(
        f"{text!r} is no address such as tcp:127.0.0.1:8081, unix:/run/sidecar.sock or vsock:52"
    )


@contextmanager
def bound(address: Address, setting: str, *, shared: bool) -> Iterator[list[socket.socket]]:
    """Bind to *address*; at the end its sockets are closed and its file is gone.

    *shared* TCP sockets let other processes bind the same port; a unix socket is shared with child
    processes that inherit it. Raise `PortTaken`, which names the *setting* to change.
    """
    if isinstance(address, Unix):
        with _bound_unix(address, setting) as sock:
            yield [sock]
        return
    if isinstance(address, Vsock):
        with _bound_vsock(address, setting) as sock:
            yield [sock]
        return
    with ExitStack() as stack:
        yield [stack.enter_context(sock) for sock in bind(*address, setting, shared=shared)]


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
    except (OSError, UnicodeError) as exc:  # UnicodeError: a name that DNS cannot hold
        for sock in bound:
            sock.close()
        raise _taken(f"{host}:{port}", setting, exc) from exc
    return bound


def main_address(server: Server) -> Address:
    """Where clients are served."""
    if server.socket is not None:
        return Unix(server.socket, int(server.socket_mode, 8))
    return Tcp(server.host, server.port)


def with_held_ports(config: Config, stack: ExitStack) -> Config:
    """*config* with the ports that 0 stands for; raise `PortTaken` if a port is not to be had.

    Until *stack* is closed nobody but this process and its children can take them.
    """
    server = config.server
    changes: dict[str, object] = {}
    if server.socket is None:
        changes["port"] = _held(server.host, server.port, "server.port", stack)
    if server.admin is not None:
        admin_port = _held(server.admin.host, server.admin.port, "server.admin.port", stack)
        changes["admin"] = server.admin.model_copy(update={"port": admin_port})
    return config.model_copy(update={"server": server.model_copy(update=changes)})


def with_listeners_of(started: Config, config: Config) -> tuple[Config, list[str]]:
    """*config* listening where *started* does, and the names of what a restart would change."""
    old, new = started.server, config.server
    names = ("host", "port", "socket", "socket_mode", "workers", "admin")
    kept = {name: getattr(old, name) for name in names}
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


@contextmanager
def _bound_unix(address: Unix, setting: str) -> Iterator[socket.socket]:
    path, owner = os.path.abspath(address.path), os.getpid()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            with _alone_in(os.path.dirname(path)):
                _remove_stale(path)
                _bind_unix(sock, path, address.mode)
            made = _identity(path)
        except OSError as exc:
            raise _taken(path, setting, exc) from exc
        try:
            yield sock
        finally:
            if os.getpid() == owner:  # not in a child that has inherited it
                with suppress(FileNotFoundError):
                    if _identity(path) == made:
                        os.unlink(path)


@contextmanager
def _bound_vsock(address: Vsock, setting: str) -> Iterator[socket.socket]:
    where = f"vsock port {address.port}"
    with ExitStack() as stack:
        try:
            sock = stack.enter_context(socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM))
            sock.bind((socket.VMADDR_CID_ANY, address.port))
        except OSError as exc:  # also where the kernel has no vsock at all
            raise _taken(where, setting, exc) from exc
        sock.setblocking(False)
        yield sock


def _bind_unix(sock: socket.socket, path: str, mode: int) -> None:
    """Bind and listen: from the first moment the file is of a process that lives."""
    before = os.umask(0o777)  # nobody connects until the mode is the right one
    try:
        sock.bind(path)
    finally:
        os.umask(before)
    sock.listen(BACKLOG)
    sock.setblocking(False)
    os.chmod(path, mode)


def _identity(path: str) -> tuple[int, int, int]:
    found = os.lstat(path)  # with its time: a successor's file may get the inode's number
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _remove_stale(path: str) -> None:
    """Remove a socket file that nobody listens on; raise OSError if anything else is there."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(errno.EEXIST, "a file that is no socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:  # its backlog is full
            pass
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


@contextmanager
def _alone_in(directory: str) -> Iterator[None]:
    """Hold the directory's lock: of two processes that start at once, only one finds no socket."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    end = time.monotonic() + _SETTING_UP_S
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise
                time.sleep(0.02)
        yield
    finally:
        os.close(fd)


def _taken(where: str, setting: str, exc: OSError | UnicodeError) -> PortTaken:
    if isinstance(exc, OSError) and exc.errno == errno.EADDRINUSE:
        return PortTaken(f"{setting}: {where} is in use; choose another")
    # Python itself, which refuses a socket's path that is too long, gives no `strerror`.
    reason = getattr(exc, "strerror", None) or exc
    return PortTaken(f"{setting}: {where} cannot be used: {reason}; choose another")


async def accepted(listening: Sequence[asyncio.Server]) -> None:
    """Let the loop accept, one in each turn, whoever has connected: to close would reset them."""
    queues = select.poll()
    for one in listening:
        for sock in one.sockets:
            queues.register(sock.fileno(), select.POLLIN)
    ends_at = time.monotonic() + _ACCEPTING_S
    while queues.poll(0) and time.monotonic() < ends_at:  # noqa: ASYNC110  # no event of the loop
        await asyncio.sleep(0)
    for _ in range(_BEGINNING):
        await asyncio.sleep(0)
