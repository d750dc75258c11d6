"""A process beside this one that does what would keep the GIL from the event loop."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import structlog

import gateway

log = structlog.get_logger()

RESTART_PAUSE_S = 5.0  # between two starts
_PROGRAM = (
    "import sys; sys.path += sys.argv[1].splitlines();"
    " from importlib import import_module;"
    " import_module(sys.argv[2]).main(int(sys.argv[3]), *sys.argv[4:])"
)


class HelperLost(Exception):
    """The helper cannot do its work, or not to the end: do it here."""


class HelperProcess:
    """Runs the `main(control, *arguments)` of *module*, whose orders come by the socket *control*.

    It is started when it is needed and there is none; it finds our own package and *packages*,
    and nothing else that is installed. Its methods wait: call them in a pool.
    """

    def __init__(
        self, module: str, arguments: Sequence[str] = (), packages: Sequence[ModuleType] = ()
    ) -> None:
        self._module = module
        self._arguments = arguments
        self._path = "\n".join({_above(package): "" for package in (gateway, *packages)})
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._orders: socket.socket | None = None
        self._may_start_at = 0.0
        self._is_closed = False

    def send(self, order: bytes, descriptors: list[int]) -> None:
        """Send one order; raise `HelperLost` if there can be no process, or OSError."""
        with self._lock:
            socket.send_fds(self._started(), [order], descriptors)

    def discard(self) -> None:
        """End the process, whatever it is doing; the next order starts another."""
        with self._lock:
            self._discard()

    def close(self) -> None:
        """End the process for good."""
        self._is_closed = True
        self.discard()

    def _started(self) -> socket.socket:
        """The socket for orders to a running process."""
        if self._process is not None and self._process.poll() is not None:
            log.error("helper_died", helper=self._module, code=self._process.returncode)
            self._discard()
        if self._orders is None:
            if self._is_closed or time.monotonic() < self._may_start_at:
                raise HelperLost
            self._may_start_at = time.monotonic() + RESTART_PAUSE_S
            try:
                self._launch()
            except OSError as exc:
                log.error("helper_failed", helper=self._module, reason=exc.strerror)
                raise HelperLost from exc
        assert self._orders is not None
        return self._orders

    def _launch(self) -> None:
        ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603  # our own program
                    [
                        *(sys.executable, "-I", "-S", "-c", _PROGRAM),
                        *(self._path, self._module, str(theirs.fileno())),
                        *self._arguments,
                    ],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    process_group=0,  # a terminal's signals are for the gateway
                )
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)  # one that does not take orders is as good as none
        self._orders = ours

    def _discard(self) -> None:
        if self._orders is not None:
            self._orders.close()
            self._orders = None
        if self._process is not None:
            self._process.kill()
            # In a hung file system it lives on for as long as that hangs.
            threading.Thread(target=self._process.wait, daemon=True).start()
            self._process = None


def _above(package: ModuleType) -> str:
    assert package.__file__ is not None
    return os.fspath(Path(package.__file__).parents[1])
