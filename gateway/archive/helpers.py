"""Processes that do the jobs of all archives, so that every processor has something to do."""

import asyncio
import os
import socket
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Self

import structlog

from gateway.archive.compress import PACKAGES
from gateway.archive.jobs import Changed, Job, Packet, run
from gateway.archive.memory import Memory
from gateway.system import frames
from gateway.system.helper import HelperLost, HelperProcess
from gateway.system.pool import Pool

log = structlog.get_logger()

_WARMED_AFTER_S = 0.5  # before, they would compete with the gateway's own start
_PATIENCE_S = 60.0  # a job takes milliseconds, unless a file system hangs


class Helpers:
    """As many helper processes as this process may use processors, each behind a thread.

    None belongs to an archive: each does one job after the other, whoever's it is.
    """

    def __init__(self, count: int) -> None:
        self.memory = Memory()
        self._pool = Pool("archive", count)
        self._all = [_Helper() for _ in range(count)]
        self._idle = deque(self._all)  # one for each thread that is not at work

    @classmethod
    @asynccontextmanager
    async def running(cls, count: int) -> AsyncIterator[Self]:
        """Start the processes soon, or with the first job; leaving ends them."""
        helpers = cls(count)
        warming = asyncio.get_running_loop().call_later(_WARMED_AFTER_S, helpers._warm_up_all)
        try:
            yield helpers
        finally:
            warming.cancel()
            helpers._pool.shutdown(wait=False, cancel_futures=True)
            threading.Thread(target=helpers._close, name="archive-end", daemon=True).start()

    def submit(self, job: Job, descriptor: int) -> Future[tuple[int, Packet]]:
        """Do *job* as `jobs.run` does, and close *descriptor*; also return a file of `memory`."""
        try:
            coming = self._pool.submit(self._do, job, descriptor)
        except RuntimeError:  # the helpers have ended
            os.close(descriptor)
            raise
        coming.add_done_callback(lambda _: os.close(descriptor))
        return coming

    def _do(self, job: Job, descriptor: int) -> tuple[int, Packet]:
        try:
            with self._helper() as helper:
                return self._packed(partial(helper.do, job, descriptor))
        except HelperLost:
            return self._packed(partial(run, job, descriptor))

    def _packed(self, do: Callable[[int], Packet]) -> tuple[int, Packet]:
        memory = self.memory.take()
        try:
            return memory, do(memory)
        except BaseException:
            # Not given back: a lost helper that hangs in a file system may still write to it.
            self.memory.let_go(memory)
            raise

    def _warm_up_all(self) -> None:
        for _ in self._all:
            self._pool.submit(self._warm_up)

    def _warm_up(self) -> None:
        # If it is lost, that is in the log, and the next job tries again.
        with self._helper() as helper, suppress(HelperLost):
            helper.warm_up()

    @contextmanager
    def _helper(self) -> Iterator["_Helper"]:
        helper = self._idle.popleft()
        try:
            yield helper
        finally:
            self._idle.append(helper)

    def _close(self) -> None:
        self.memory.close()
        for helper in self._all:
            helper.close()


class _Helper:
    """One helper process and the connection to it, for one thread at a time."""

    def __init__(self) -> None:
        self._process = HelperProcess("gateway.archive.helper_process", packages=PACKAGES)
        self._sock: socket.socket | None = None
        self._lock = threading.Lock()
        self._is_closed = False

    def warm_up(self) -> None:
        """Start the process; raise `HelperLost` if there can be none now."""
        with self._lock:
            self._connected()

    def do(self, job: Job, descriptor: int, memory: int) -> Packet:
        """Have the process do *job*; raise `Changed`, or `HelperLost` if it cannot."""
        with self._lock:
            sock = self._connected()
            try:
                frames.send(sock, tuple(job), [descriptor, memory])
                answer, _ = frames.receive_with(sock, 1)
            except (OSError, EOFError) as exc:
                if not self._is_closed:
                    hint = "another one is started"
                    log.error("archive_helper_lost", reason=repr(exc), hint=hint)
                self._process.discard()
                self._disconnect()
                raise HelperLost from exc
        if isinstance(answer, str):
            raise Changed(answer)
        return Packet(*answer)

    def close(self) -> None:
        """End the process, whatever it is doing; whoever waits for it goes on at once."""
        self._is_closed = True
        self._process.close()
        with self._lock:
            self._disconnect()

    def _connected(self) -> socket.socket:
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

    def _disconnect(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None
