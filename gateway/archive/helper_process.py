"""The helper process that does jobs; it imports little, so that it is small and starts at once."""

import os
import signal
import socket
from contextlib import suppress

from gateway.archive.jobs import Changed, Job, run
from gateway.system import frames

_NICE = 10  # the loops come first, then walks


def main(control: int) -> None:
    """Do the jobs of whoever holds the other end of the socket *control*, until it is closed."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # meant for the gateway, which may go on for a while
    os.nice(_NICE)
    with socket.socket(fileno=control) as orders:
        _, descriptors, _, _ = socket.recv_fds(orders, 1, 1)
        for connection in descriptors:  # none, if the gateway was killed before
            with socket.socket(fileno=connection) as sock, suppress(EOFError, ConnectionError):
                while True:
                    _serve(sock)


def _serve(sock: socket.socket) -> None:
    """Do one job: answer with its packet, or with the member that has changed."""
    values, (descriptor, memory) = frames.receive_with(sock, 2)
    try:
        answer: object = tuple(run(Job(*values), descriptor, memory))
    except Changed as exc:
        answer = str(exc)
    finally:
        os.close(descriptor)
        os.close(memory)
    frames.send(sock, answer)
