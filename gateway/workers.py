"""Several serving processes on one port, and the parent that keeps them running."""

import ctypes
import os
import select
import signal
import socket
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
from gateway.listeners import (
    PortTaken,
    Unix,
    bound,
    main_address,
    with_held_ports,
    with_listeners_of,
)
from gateway.server import SIGNALS, Reload, run_loop, serve

log = structlog.get_logger()

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_SHORTEST_PAUSE_S = 1.0  # before a worker that died is replaced
_LONGEST_PAUSE_S = 30.0
_A_WHILE_S = 30.0  # a worker that lived so long could serve
_ANSWER_S = 30.0
_WORD = struct.Struct("i?")  # a worker's process id, and whether all is well; below PIPE_BUF


class _Phase(Enum):
    STARTING = "starting"
    SERVING = "serving"
    STOPPING = "stopping"


class _Parent:
    """The supervisor of a worker: it is sent one word at the start and one after each reload."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def ready(self) -> None:
        """The worker has the config that it was started or reloaded with."""
        os.write(self._pipe, _WORD.pack(os.getpid(), True))

    def refused(self) -> None:
        """The worker keeps its old config."""
        os.write(self._pipe, _WORD.pack(os.getpid(), False))

    def reloading(self) -> None:
        """It was the parent who asked for it."""

    def stopping(self) -> None:
        """The parent will see the end."""


class Workers:
    """The worker processes of one gateway.

    Without *reload*, SIGHUP is a SIGTERM.
    """

    def __init__(self, config: Config, reload: Reload | None) -> None:
        self._config = config  # what replacements start with
        self._reload = reload
        self._phase = _Phase.STARTING
        self._since: dict[int, float] = {}  # by process id: when each worker was started
        # Who has not yet said that it serves, or what came of a reload, and until when it may.
        self._awaited: dict[int, float] = {}
        self._reload_wanted = False
        self._following: Config | None = None  # during a reload: the config that is tried
        self._accepted: dict[int, bool] = {}  # what the workers have said of it
        self._replacements: list[float] = []  # when they are due
        self._replacement_pause_s = _SHORTEST_PAUSE_S
        self._pipe = -1
        self._inherited: list[socket.socket] | None = None  # a unix socket for all workers
        self._code = 0

    def run(self, on_ready: Callable[[], None]) -> int:
        """Run until told to stop; return 0, or 1 if a worker could not start.

        A worker that dies is replaced. A reload that the parent finds wrong reaches no worker;
        one that a worker refuses is not what replacements start with. Raise `PortTaken`.
        """
        with ExitStack() as stack:
            self._config = with_held_ports(self._config, stack)
            address = main_address(self._config.server)
            if isinstance(address, Unix):
                unix = bound(address, "server.socket", shared=True)
                self._inherited = stack.enter_context(unix)
            signals = stack.enter_context(_signals())
            words, self._pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            stack.callback(os.close, words)
            stack.callback(os.close, self._pipe)
            for _ in range(self._config.server.workers):
                self._start()
            while self._since or self._replacements:
                readable, _, _ = select.select([signals, words], [], [], self._pause_s())
                if signals in readable:
                    for number in os.read(signals, 4096):
                        self._told(signal.Signals(number))
                if words in readable:
                    for pid, accepted in _WORD.iter_unpack(os.read(words, 1024 * _WORD.size)):
                        self._answered(pid, accepted)
                self._go_on(on_ready)
        return self._code

    def _told(self, number: signal.Signals) -> None:
        match number:
            case signal.SIGCHLD:
                self._reap()
            case signal.SIGHUP if self._reload is not None or self._phase is _Phase.STOPPING:
                self._reload_wanted = True
            case _ if self._phase is _Phase.STOPPING:
                log.warning("ending_at_once", signal=number.name)
                self._pass_on(signal.SIGQUIT)
            case _:
                self._stop(number)

    def _stop(self, number: signal.Signals) -> None:
        self._phase = _Phase.STOPPING
        self._replacements.clear()
        for sock in self._inherited or ():
            sock.close()  # or clients would wait at a socket that no worker accepts from any more
        systemd.stopping()
        self._pass_on(number)

    def _reap(self) -> None:
        while self._since:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            since = self._since.pop(pid, None)
            if since is None:  # as process 1 of a container this one inherits what workers started
                continue
            lived_s = time.monotonic() - since
            self._awaited.pop(pid, None)
            mark_process_dead(pid)  # type: ignore[no-untyped-call]  # prometheus_client
            if self._phase is _Phase.STOPPING:
                continue
            log.error("worker_died", pid=pid, code=os.waitstatus_to_exitcode(status))
            if self._phase is _Phase.STARTING:
                self._code = 1
                self._stop(signal.SIGTERM)
            else:
                self._plan_replacement(lived_s)

    def _plan_replacement(self, lived_s: float) -> None:
        if lived_s >= _A_WHILE_S:
            self._replacement_pause_s = _SHORTEST_PAUSE_S
        self._replacements.append(time.monotonic() + self._replacement_pause_s)
        self._replacement_pause_s = min(2 * self._replacement_pause_s, _LONGEST_PAUSE_S)

    def _answered(self, pid: int, accepted: bool) -> None:
        # A worker may say more than it was asked: a terminal sends SIGHUP to all of them.
        if self._awaited.pop(pid, None) is not None and self._following is not None:
            self._accepted[pid] = accepted

    def _pause_s(self) -> float | None:
        """How long there is nothing to do, unless something happens."""
        due = list(self._awaited.values()) or self._replacements
        if self._phase is not _Phase.SERVING or not due:
            return None
        return max(0.0, min(due) - time.monotonic())

    def _go_on(self, on_ready: Callable[[], None]) -> None:
        """Once nobody is awaited: say so, and begin what had to wait for that."""
        if self._phase is _Phase.SERVING:
            self._give_up_waiting()
        if self._awaited or self._phase is _Phase.STOPPING:
            return
        if self._phase is _Phase.STARTING:
            self._phase = _Phase.SERVING
            systemd.ready()
            on_ready()
        self._end_reload()
        self._replace()
        if self._reload_wanted and self._since and not self._awaited:
            self._reload_wanted = False
            self._begin_reload()

    def _give_up_waiting(self) -> None:
        now = time.monotonic()
        for pid in [pid for pid, until in self._awaited.items() if until <= now]:
            log.error("worker_does_not_answer", pid=pid, hint="if it stays so, kill it")
            del self._awaited[pid]

    def _replace(self) -> None:
        now = time.monotonic()
        for due in [due for due in self._replacements if due <= now]:
            self._replacements.remove(due)
            self._start()

    def _begin_reload(self) -> None:
        assert self._reload is not None
        systemd.reloading()
        try:
            # Each worker reads the file again. If it has been edited in between, the workers
            # differ from each other until the reload that belongs to that edit.
            self._following, _ = with_listeners_of(self._config, self._reload())
        except ConfigError as exc:
            log.error("reload_failed", problems=str(exc), hint="the old config stays in force")
            systemd.refused()
            return
        except Exception:  # as in a worker: no reason to stop serving
            log.exception("reload_failed", hint="the old config stays in force")
            systemd.refused()
            return
        self._accepted.clear()
        self._awaited = dict.fromkeys(self._since, time.monotonic() + _ANSWER_S)
        self._pass_on(signal.SIGHUP)

    def _end_reload(self) -> None:
        """Adopt the config if there was a reload, somebody has accepted it, and nobody refused."""
        following, self._following = self._following, None
        if following is None:
            return
        if self._accepted and all(self._accepted.values()):
            self._config = following
            systemd.ready()
            return
        refused = [pid for pid, accepted in self._accepted.items() if not accepted]
        log.error("reload_refused", pids=refused, hint="new workers start with the old config")
        systemd.refused()

    def _pass_on(self, number: signal.Signals) -> None:
        for pid in self._since:
            os.kill(pid, number)

    def _start(self) -> None:
        parent = os.getpid()
        # A signal between fork and the child's own handlers has to wait for those.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (*SIGNALS, signal.SIGCHLD))
        pid = os.fork()
        if pid == 0:
            self._work(parent)
        self._since[pid] = time.monotonic()
        self._awaited[pid] = self._since[pid] + _ANSWER_S
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _work(self, parent: int) -> None:
        """Be a worker; nothing of the parent's may run on in the child, whatever happens here."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (*SIGNALS, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            _die_with(parent)
            run_loop(
                serve(
                    self._config,
                    self._reload,
                    _Parent(self._pipe),
                    shared=True,
                    inherited=self._inherited,
                )
            )
            code = 0
        except (PortTaken, GatewayError) as exc:
            log.error("worker_failed", reason=str(exc))
        except Exception:
            log.exception("worker_failed")
        finally:
            os._exit(code)


@contextmanager
def _signals() -> Iterator[int]:
    """A descriptor from which the numbers of the signals that arrive can be read."""
    reads, writes = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    watched = (*SIGNALS, signal.SIGCHLD)
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
