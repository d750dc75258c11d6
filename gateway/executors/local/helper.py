"""A process beside this one that walks through large trees, so that the loop keeps the GIL."""

import socket
import threading
from collections.abc import Generator
from contextlib import closing

import structlog

from gateway.domain.model import Row
from gateway.executors.local.tree import Area
from gateway.system import frames
from gateway.system.helper import HelperLost, HelperProcess

log = structlog.get_logger()

MOST_WALKS = 32  # at a time; each holds a thread and some descriptors of the helper
_PATIENCE_S = 30.0  # it says something every 50 ms, unless a file system hangs


class Helper:
    """The helper process for walks. Its methods wait: call them in a pool."""

    def __init__(self, resolver: str, prefix: str | None) -> None:
        arguments = [resolver] if prefix is None else [resolver, prefix]
        self._process = HelperProcess("gateway.executors.local.helper_process", arguments)
        self._room = threading.Semaphore(MOST_WALKS)

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.close()

    def walk_rows(
        self, area: Area, after: tuple[bytes, ...] | None
    ) -> Generator[list[Row], None, None]:
        """As `tree.walk_rows`; raise `HelperLost` where it does not go on."""
        if not self._room.acquire(blocking=False):
            raise HelperLost
        try:
            with closing(self._begun(area)) as sock, sock.makefile("rb") as file:
                frames.send(sock, (area.parts, area.depth, area.for_archive, after))
                while (rows := frames.receive(file)) is not None:
                    yield rows
        except TimeoutError as exc:
            log.error("walk_helper_hangs", hint="another one is started")
            self._process.discard()
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
                self._process.send(b"w", [area.session, area.base, theirs.fileno()])
            except BaseException:
                ours.close()
                raise
        return ours
