"""One serving process: listens, reloads its config without losing a request, drains, ends."""

import asyncio
import signal
import socket
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import structlog
import uvloop

from gateway import systemd
from gateway.app import wired
from gateway.config.errors import ConfigError
from gateway.config.model import Config, Server
from gateway.domain.errors import GatewayError
from gateway.http.connection import Timeouts
from gateway.http.health import Lifecycle
from gateway.http.hosting import ConnectionServer, Hosted
from gateway.listeners import PortTaken, bind, with_listeners_of

log = structlog.get_logger()

_BACKLOG = 1024
_ADMIN_DRAIN_S = 1.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


class Generation:
    """The applications of one config, behind connections that may outlive them."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.lifecycle = Lifecycle()
        self._stack = AsyncExitStack()
        self._hosted: list[Hosted] = []
        self._servers: list[ConnectionServer] = []
        self._listening: list[list[asyncio.Server]] = []

    async def start(self, main: list[socket.socket], admin: list[socket.socket]) -> None:
        """Start everything, then accept; on an error nothing has been accepted."""
        await self._start_applications()
        loop = asyncio.get_running_loop()
        for hosted, sockets in zip(self._hosted, (main, admin), strict=True):
            server = ConnectionServer(hosted, self._timeouts())
            self._servers.append(server)
            self._listening.append(
                [
                    await loop.create_server(server, sock=sock.dup(), backlog=_BACKLOG)
                    for sock in sockets
                ]
            )

    async def succeed(self, previous: "Generation") -> None:
        """Start beside *previous*, then take over its connections; on an error nothing changes.

        What *previous* is answering stays with it until it is answered.
        """
        await self._start_applications()
        self._servers, self._listening = previous._servers, previous._listening
        for server, hosted in zip(self._servers, self._hosted, strict=True):
            server.host(hosted, self._timeouts())

    async def retire(self) -> None:
        """Let what runs finish within the drain limit, then free everything but connections."""
        limit_s = self.config.server.drain
        await asyncio.gather(*(hosted.finish(limit_s) for hosted in self._hosted))
        await self._stack.aclose()

    async def end(self, *, at_once: bool = False) -> None:
        """Accept nothing more, end all connections within the drain limit, free everything.

        The admin listener, where this can be watched, goes last.
        """
        self.lifecycle.draining = True
        limits_s = (0.0, 0.0) if at_once else (self.config.server.drain, _ADMIN_DRAIN_S)
        for listening, server, limit_s in zip(
            self._listening, self._servers, limits_s, strict=True
        ):
            for one in listening:
                one.close()
            await server.drain(limit_s)
        await self.retire()

    def abort(self) -> None:
        """Break every connection now."""
        for server in self._servers:
            server.abort()

    async def _start_applications(self) -> None:
        async with AsyncExitStack() as stack:
            apps = await stack.enter_async_context(wired(self.config, self.lifecycle))
            self._hosted = [
                await stack.enter_async_context(Hosted.running(app))
                for app in (apps.main, apps.admin)
            ]
            self._stack = stack.pop_all()

    def _timeouts(self) -> Timeouts:
        server = self.config.server
        return Timeouts(server.header_timeout, server.keepalive_timeout, server.idle_timeout)


async def serve(
    config: Config,
    reload: Callable[[], Config],
    on_ready: Callable[[], None],
    *,
    shared: bool,
    on_reloaded: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP reloads; SIGQUIT, or a second signal, ends at once.

    *shared*: other processes use the port too, under a parent that speaks to systemd. It also gets
    every signal that a terminal or systemd sends to all of them, and repeats it, so that only
    SIGQUIT means at once then. *on_reloaded* is called after each reload, whatever came of it.
    """
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, signals.put_nowait, number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)  # blocked while a worker starts
    with ExitStack() as sockets:
        main, admin = _sockets(config.server, sockets, shared=shared)
        current = Generation(config)
        await _started(current, main, admin)
        log.info("serving", host=config.server.host, port=main[0].getsockname()[1])
        if not shared:
            systemd.ready()
        on_ready()
        async with asyncio.TaskGroup() as leaving:
            while (number := await signals.get()) is signal.SIGHUP:
                if not shared:
                    systemd.reloading()
                following = await _reloaded(current, reload)
                if following is not current:
                    leaving.create_task(current.retire())
                    current = following
                if not shared:
                    systemd.ready()
                on_reloaded()
            log.info("draining")
            if not shared:
                systemd.stopping()
            hurry = asyncio.Event()
            for impatient in _SIGNALS:
                loop.add_signal_handler(impatient, _hurried, impatient, current, hurry, shared)
            if number is signal.SIGQUIT:
                hurry.set()
            current.lifecycle.unready = True
            if number is signal.SIGTERM:
                await _passed(current.config.server.grace, hurry)
            sockets.close()
            await current.end(at_once=hurry.is_set())
    log.info("stopped")


def _hurried(
    number: signal.Signals, current: Generation, hurry: asyncio.Event, shared: bool
) -> None:
    if number is signal.SIGQUIT or not (shared or number is signal.SIGHUP):
        log.warning("ending_at_once", signal=number.name)
        hurry.set()
        current.abort()


def run_loop(serving: Coroutine[Any, Any, None]) -> None:
    """Run *serving* to its end, on uvloop: the same work takes a quarter less of the processor."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serving)


async def _passed(seconds: float, unless: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(seconds):
            await unless.wait()
    except TimeoutError:
        pass


async def _started(
    generation: Generation, main: list[socket.socket], admin: list[socket.socket]
) -> None:
    try:
        await generation.start(main, admin)
    except OSError as exc:  # between bind and listen somebody else was faster
        raise PortTaken(f"server: cannot listen: {exc.strerror}; choose other ports") from exc


async def _reloaded(current: Generation, reload: Callable[[], Config]) -> Generation:
    """The generation that takes over: *current* itself if the new config cannot be used."""
    try:
        config, needs_restart = with_listeners_of(current.config, reload())
        following = Generation(config)
        await following.succeed(current)
    except (ConfigError, GatewayError) as exc:
        log.error("reload_failed", problems=str(exc), hint="the old config stays in force")
        return current
    log.info("reloaded", needs_restart=needs_restart)
    return following


def _sockets(
    server: Server, stack: ExitStack, *, shared: bool
) -> tuple[list[socket.socket], list[socket.socket]]:
    main = bind(server.host, server.port, "server.port", shared=shared)
    for sock in main:
        stack.enter_context(sock)
    admin = []
    if server.admin is not None:
        admin = bind(server.admin.host, server.admin.port, "server.admin.port", shared=shared)
    for sock in admin:
        stack.enter_context(sock)
    return main, admin
