"""The helper process: walks areas whose descriptors it is sent, and answers with their rows.

It imports the standard library and what the walk needs, so that it is small and starts at once.
"""

import os
import signal
import socket
import threading

from gateway.domain.errors import GatewayError
from gateway.executors.local.tree import Area, walk_rows
from gateway.system import frames
from gateway.system.resolver import Resolver, Wish, choose

_NICE = 5  # the loops come first
_DESCRIPTORS = 3  # of a walk: the session, the base, where the rows go


def main(control: int, resolver: Wish, prefix: str | None = None) -> None:
    """Serve whoever holds the other end of the socket *control*, until it is closed."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # meant for the gateway, which may go on for a while
    os.nice(_NICE)
    chosen = choose(resolver, prefix)
    with socket.socket(fileno=control) as orders:
        while True:
            order, descriptors, _, _ = socket.recv_fds(orders, 1, _DESCRIPTORS)
            if not order:
                os._exit(0)  # without waiting for a thread in a hung file system
            if len(descriptors) < _DESCRIPTORS:  # too many are open
                _close(descriptors)
                continue
            threading.Thread(target=_serve, args=(chosen, *descriptors), daemon=True).start()


def _serve(resolver: Resolver, session: int, base: int, answers: int) -> None:
    """Send the rows of one walk and None behind them; on a failure, which the gateway will meet
    when it walks on by itself, hang up instead.
    """
    try:
        with socket.socket(fileno=answers) as sock:
            with sock.makefile("rb") as file:
                parts, depth, for_archive, after = frames.receive(file)
            area = Area(session, base, parts, depth, for_archive)
            for rows in walk_rows(resolver, area, after):
                frames.send(sock, rows)
            frames.send(sock, None)
    except (OSError, EOFError, GatewayError):
        pass
    finally:
        _close([session, base])


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
