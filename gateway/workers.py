"""Several serving processes on one port, and the parent that keeps them running."""

import asyncio
import ctypes
import os
import signal
import time
from collections.abc import Callable

import structlog
from prometheus_client.multiprocess import mark_process_dead

from gateway.config.errors import ConfigError
from gateway.config.model import Config
from gateway.listeners import with_free_ports
from gateway.server import serve

log = structlog.get_logger()

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_RESTART_PAUSE_S = 1.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Workers:
    """The worker processes of one gateway."""

    def __init__(self, config: Config, reload: Callable[[], Config]) -> None:
        self._config = with_free_ports(config)
        self._reload = reload
        self._pids: set[int] = set()
        self._stopping = False

    def run(self, on_ready: Callable[[], None]) -> int:
        """Run until told to stop; return 0, or 1 if a worker could not start.

        A worker that dies is replaced. A reload that the parent finds wrong reaches no worker, so
        that all of them keep the same config.
        """
        ready, says_ready = os.pipe()
        for _ in range(self._config.server.workers):
            self._start(says_ready)
        for number in _SIGNALS:
            signal.signal(number, lambda received, _: self._pass_on(signal.Signals(received)))
        os.close(says_ready)
        with os.fdopen(ready, "rb", buffering=0) as pipe:
            if not self._all_ready(pipe.fileno()):
                self._pass_on(signal.SIGTERM)
                self._reap()
                return 1
        on_ready()
        self._reap()
        return 0

    def _all_ready(self, pipe: int) -> bool:
        heard = 0
        while heard < self._config.server.workers:
            said = os.read(pipe, 1)
            if not said:
                return False
            heard += 1
        return True

    def _start(self, says_ready: int | None) -> None:
        pid = os.fork()
        if pid:
            self._pids.add(pid)
            return
        # In the child: nothing of the parent's may run on, whatever happens here.
        code = 1
        try:
            _die_with_parent()
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            asyncio.run(
                serve(
                    self._config,
                    self._reload,
                    on_ready=lambda: _say(says_ready),
                    shared=True,
                )
            )
            code = 0
        except Exception:
            log.exception("worker_failed")
        finally:
            os._exit(code)

    def _reap(self) -> None:
        while self._pids:
            try:
                pid, status = os.wait()
            except ChildProcessError:
                return
            self._pids.discard(pid)
            mark_process_dead(pid)  # type: ignore[no-untyped-call]  # prometheus_client
            if not self._stopping:
                log.error("worker_died", pid=pid, code=os.waitstatus_to_exitcode(status))
                time.sleep(_RESTART_PAUSE_S)
                self._start(None)

    def _pass_on(self, number: signal.Signals) -> None:
        if number is signal.SIGHUP:
            try:
                self._reload()
            except ConfigError as exc:
                log.error("reload_failed", problems=str(exc), hint="the old config stays in force")
                return
        else:
            self._stopping = True
        for pid in list(self._pids):
            os.kill(pid, number)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _say(pipe: int | None) -> None:
    if pipe is not None:
        os.write(pipe, b"+")
        os.close(pipe)
