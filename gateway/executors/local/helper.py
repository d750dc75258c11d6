"""A process beside this one that walks through large trees, so that the loop keeps the GIL."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import structlog

import gateway
from gateway.domain.model import Row
from gateway.executors.local import frames
from gateway.executors.local.tree import Area

log = structlog.get_logger()

MOST_WALKS = 32  # at a time; each holds a thread and some descriptors of the helper
_PATIENCE_S = 30.0  # it says something every 50 ms, unless a file system hangs
RESTART_PAUSE_S = 5.0  # between two starts
_PROGRAM = (
    "import sys; sys.path.append(sys.argv[1]);"
    " from gateway.executors.local.helper_process import main;"
    " main(int(sys.argv[2]), sys.argv[3], *sys.argv[4:] or [None])"
)


class HelperLost(Exception):
    """The helper cannot walk, or not to the end: do it here, from where it came to."""


class Helper:
    """The helper process; it is started when it is needed and there is none.

    Its methods wait: call them in a pool.
    """

    def __init__(self, resolver: str, prefix: str | None) -> None:
        self._arguments = [resolver] if prefix is None else [resolver, prefix]
        self._room = threading.Semaphore(MOST_WALKS)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._orders: socket.socket | None = None
        self._may_start_at = 0.0
        self._is_closed = False

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._is_closed = True
        self._end()

    def walk_rows(
        self, area: Area, after: tuple[bytes, ...] | None
    ) -> Generator[list[Row], None, None]:
        """As `tree.walk_rows`; raise `HelperLost` where it does not go on."""
        if not self._room.acquire(blocking=False):
            raise HelperLost
        try:
            with closing(self._begun(area)) as sock, sock.makefile("rb") as file:
                frames.send(sock, (area.parts, area.depth, after))
                while (rows := frames.receive(file)) is not None:
                    yield rows
        except TimeoutError as exc:
            log.error("walk_helper_hangs", hint="another one is started")
            self._end()
            raise HelperLost from exc
        except (OSError, EOFError) as exc:
            raise HelperLost from exc
        finally:
            self._room.release()

    def _begun(self, area: Area) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            ours.settimeout(_PATIENCE_S)
            try:
                with self._lock:
                    fds = [area.session, area.base, theirs.fileno()]
                    socket.send_fds(self._started(), [b"w"], fds)
            except BaseException:
                ours.close()
                raise
        return ours

    def _started(self) -> socket.socket:
        """The socket for orders to a running process."""
        if self._process is not None and self._process.poll() is not None:
            log.error("walk_helper_died", code=self._process.returncode)
            self._discard()
        if self._orders is None:
            if self._is_closed or time.monotonic() < self._may_start_at:
                raise HelperLost
            self._may_start_at = time.monotonic() + RESTART_PAUSE_S
            try:
                self._launch()
            except OSError as exc:
                log.error("walk_helper_failed", reason=exc.strerror)
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
                        *(os.fspath(Path(gateway.__file__).parents[1]), str(theirs.fileno())),
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

    def _end(self) -> None:
        with self._lock:
            self._discard()

    def _discard(self) -> None:
        if self._orders is not None:
            self._orders.close()
            self._orders = None
        if self._process is not None:
            self._process.kill()
            # In a hung file system it lives on for as long as that hangs.
            threading.Thread(target=self._process.wait, daemon=True).start()
            self._process = None
