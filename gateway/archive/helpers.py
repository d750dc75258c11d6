"""Processes that do the jobs of all archives, so that every processor has something to do."""

import os
import socket
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from typing import Self

import structlog

from gateway.archive.compress import PACKAGES
from gateway.archive.jobs import Changed, Job, Packet, run
from gateway.system import frames
from gateway.system.helper import HelperLost, HelperProcess
from gateway.system.pool import Pool

log = structlog.get_logger()

_PATIENCE_S = 60.0  # a job takes milliseconds, unless a file system hangs


class Helpers:
    """As many helper processes as this process may use processors, each behind a thread.

    None belongs to an archive: each does one job after the other, whoever's it is.
    """

    def __init__(self, count: int) -> None:
        self._pool = Pool("archive", count)
        self._own = threading.local()
        self._all: list[_Helper] = []
        self._count = count

    @classmethod
    @asynccontextmanager
    async def running(cls, count: int) -> AsyncIterator[Self]:
        """Start the processes, without waiting for them; leaving ends them."""
        helpers = cls(count)
        try:
            for _ in range(count):
                helpers._pool.submit(helpers._warm_up)
            yield helpers
        finally:
            helpers._pool.shutdown(wait=False, cancel_futures=True)
            threading.Thread(target=helpers._close, name="archive-end", daemon=True).start()

    def submit(self, job: Job, descriptor: int) -> Future[tuple[int, Packet]]:
        """Do *job* as `jobs.run` does, and close *descriptor*."""
        coming = self._pool.submit(self._do, job, descriptor)
        coming.add_done_callback(lambda _: os.close(descriptor))
        return coming

    def _do(self, job: Job, descriptor: int) -> tuple[int, Packet]:
        try:
            return self._helper().do(job, descriptor)
        except HelperLost:
            return run(job, descriptor)

    def _helper(self) -> "_Helper":
        helper: _Helper | None = getattr(self._own, "helper", None)
        if helper is None:
            helper = self._own.helper = _Helper()
            self._all.append(helper)
        return helper

    def _warm_up(self) -> None:
        with suppress(HelperLost):  # it is in the log, and the next job tries again
            self._helper().connect()

    def _close(self) -> None:
        for helper in self._all:
            helper.end()
        self._pool.shutdown()  # none of its threads uses a connection any more
        for helper in self._all:
            helper.close()


class _Helper:
    """One helper process and the connection to it; for one thread."""

    def __init__(self) -> None:
        self._process = HelperProcess("gateway.archive.helper_process", packages=PACKAGES)
        self._sock: socket.socket | None = None

    def connect(self) -> socket.socket:
        """The connection; raise `HelperLost` if there can be none now."""
        if self._sock is None:
            ours, theirs = socket.socketpair()
            with theirs:
                ours.settimeout(_PATIENCE_S)
                try:
                    self._process.send(b"c", [theirs.fileno()])
                except (HelperLost, OSError) as exc:
                    ours.close()
                    raise HelperLost from exc
            self._sock = ours
        return self._sock

    def do(self, job: Job, descriptor: int) -> tuple[int, Packet]:
        """Have the process do *job*; raise `Changed`, or `HelperLost` if it cannot."""
        sock = self.connect()
        try:
            frames.send(sock, tuple(job), [descriptor])
            answer, made = frames.receive_with(sock, 1)
        except (OSError, EOFError) as exc:
            log.error("archive_helper_lost", reason=repr(exc), hint="another one is started")
            self._disconnect()
            raise HelperLost from exc
        if isinstance(answer, str):
            raise Changed(answer)
        return made[0], Packet(*answer)

    def end(self) -> None:
        """End the process, whatever it is doing; its connection tells who waits for it."""
        self._process.close()

    def close(self) -> None:
        """The same, also if it was only being started; and close the connection."""
        self.end()
        if self._sock is not None:
            self._sock.close()

    def _disconnect(self) -> None:
        assert self._sock is not None
        self._sock.close()
        self._sock = None
        self._process.discard()
