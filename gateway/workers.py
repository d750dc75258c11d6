"""Several serving processes on one port, and the parent that keeps them running."""

import ctypes
import os
import select
import signal
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum

import structlog
from prometheus_client.multiprocess import mark_process_dead

from gateway import systemd
from gateway.config.errors import ConfigError
from gateway.config.model import Config
from gateway.domain.errors import GatewayError
from gateway.listeners import PortTaken, with_held_ports, with_listeners_of
from gateway.server import run_loop, serve

log = structlog.get_logger()

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_RESTART_PAUSE_S = 1.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
_WORD = struct.Struct("i")  # what a worker says: its process id; shorter than PIPE_BUF


class _Phase(Enum):
    STARTING = "starting"
    SERVING = "serving"
    STOPPING = "stopping"


class Workers:
    """The worker processes of one gateway."""

    def __init__(self, config: Config, reload: Callable[[], Config]) -> None:
        self._config = config
        self._reload = reload
        self._phase = _Phase.STARTING
        self._pids: set[int] = set()
        # Those who have not yet said that they serve, or that they are done with a reload.
        self._awaited: set[int] = set()
        self._reload_wanted = False
        self._reloading = False
        self._replacements: list[float] = []  # when they are due
        self._says: int = -1
        self._code = 0

    def run(self, on_ready: Callable[[], None]) -> int:
        """Run until told to stop; return 0, or 1 if a worker could not start.

        A worker that dies is replaced. A reload that the parent finds wrong reaches no worker, so
        that all of them keep the same config. Raise `PortTaken`.
        """
        with ExitStack() as stack:
            self._config = with_held_ports(self._config, stack)
            signals = stack.enter_context(_signals())
            words, self._says = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            stack.callback(os.close, words)
            stack.callback(os.close, self._says)
            for _ in range(self._config.server.workers):
                self._start()
            while self._pids or self._replacements:
                readable, _, _ = select.select([signals, words], [], [], self._pause_s())
                if signals in readable:
                    for number in os.read(signals, 4096):
                        self._told(signal.Signals(number))
                if words in readable:
                    for (pid,) in _WORD.iter_unpack(os.read(words, 1024 * _WORD.size)):
                        self._awaited.discard(pid)
                self._replace()
                self._go_on(on_ready)
        return self._code

    def _told(self, number: signal.Signals) -> None:
        match number:
            case signal.SIGCHLD:
                self._reap()
            case signal.SIGHUP:
                self._reload_wanted = True
            case _ if self._phase is _Phase.STOPPING:
                log.warning("ending_at_once", signal=number.name)
                self._pass_on(signal.SIGQUIT)
            case _:
                self._stop(number)

    def _stop(self, number: signal.Signals) -> None:
        self._phase = _Phase.STOPPING
        self._replacements.clear()
        systemd.stopping()
        self._pass_on(number)

    def _reap(self) -> None:
        while self._pids:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            self._pids.discard(pid)
            self._awaited.discard(pid)
            mark_process_dead(pid)  # type: ignore[no-untyped-call]  # prometheus_client
            if self._phase is _Phase.STOPPING:
                continue
            log.error("worker_died", pid=pid, code=os.waitstatus_to_exitcode(status))
            if self._phase is _Phase.STARTING:
                self._code = 1
                self._stop(signal.SIGTERM)
            else:
                self._replacements.append(time.monotonic() + _RESTART_PAUSE_S)

    def _pause_s(self) -> float | None:
        if not self._replacements:
            return None
        return max(0.0, min(self._replacements) - time.monotonic())

    def _replace(self) -> None:
        now = time.monotonic()
        for due in [due for due in self._replacements if due <= now]:
            self._replacements.remove(due)
            self._start()

    def _go_on(self, on_ready: Callable[[], None]) -> None:
        """Once nobody is awaited: say so, and begin the reload that was asked for meanwhile."""
        if self._awaited or self._phase is _Phase.STOPPING:
            return
        if self._phase is _Phase.STARTING:
            self._phase = _Phase.SERVING
            systemd.ready()
            on_ready()
        if self._reloading:
            self._reloading = False
            systemd.ready()
        if self._reload_wanted:
            self._reload_wanted = False
            self._begin_reload()

    def _begin_reload(self) -> None:
        systemd.reloading()
        try:
            self._config, _ = with_listeners_of(self._config, self._reload())
        except ConfigError as exc:
            log.error("reload_failed", problems=str(exc), hint="the old config stays in force")
            systemd.ready()
            return
        self._reloading = True
        self._awaited = set(self._pids)
        self._pass_on(signal.SIGHUP)

    def _pass_on(self, number: signal.Signals) -> None:
        for pid in self._pids:
            os.kill(pid, number)

    def _start(self) -> None:
        parent = os.getpid()
        # A signal between fork and the child's own handlers has to wait for those.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (*_SIGNALS, signal.SIGCHLD))
        pid = os.fork()
        if pid == 0:
            self._work(parent)
        self._pids.add(pid)
        self._awaited.add(pid)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _work(self, parent: int) -> None:
        """Be a worker; nothing of the parent's may run on in the child, whatever happens here."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (*_SIGNALS, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            _die_with(parent)
            say = self._say
            run_loop(serve(self._config, self._reload, on_ready=say, on_reloaded=say, shared=True))
            code = 0
        except (PortTaken, GatewayError) as exc:
            log.error("worker_failed", reason=str(exc))
        except Exception:
            log.exception("worker_failed")
        finally:
            os._exit(code)

    def _say(self) -> None:
        os.write(self._says, _WORD.pack(os.getpid()))


@contextmanager
def _signals() -> Iterator[int]:
    """A descriptor from which the numbers of the signals that arrive can be read."""
    reads, writes = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    watched = (*_SIGNALS, signal.SIGCHLD)
    try:
        wakeup = signal.set_wakeup_fd(writes)
        handlers = [signal.signal(number, lambda *_: None) for number in watched]
        try:
            yield reads
        finally:
            for number, handler in zip(watched, handlers, strict=True):
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)
    finally:
        os.close(reads)
        os.close(writes)


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it has died already
        os._exit(1)
