"""One serving process: listens, reloads its config without losing a request, drains, ends."""

import asyncio
import signal
import socket
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, ExitStack, suppress
from typing import Any

import structlog
import uvloop

from gateway.app import wired
from gateway.config.errors import ConfigError
from gateway.config.model import Config
from gateway.config.server import Server
from gateway.domain.errors import GatewayError
from gateway.http.connection import Timeouts
from gateway.http.health import Lifecycle
from gateway.http.hosting import ConnectionServer, Hosted
from gateway.listeners import (
    BACKLOG,
    Address,
    PortTaken,
    Tcp,
    Unix,
    Vsock,
    accepted,
    bound,
    main_address,
    with_listeners_of,
)
from gateway.supervisor import Supervisor
from gateway.system.pool import Pool

log = structlog.get_logger()

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
"""What a serving process listens to."""

Reload = Callable[[], Config]
"""Gives the config that SIGHUP brings into force; raises `ConfigError`."""

_SETTINGS: Mapping[type, str] = {Tcp: "server.port", Unix: "server.socket"}
_ADMIN_DRAIN_S = 1.0
_READING_S = 20.0  # a signal that ends the process has to wait for it


class Generation:
    """The sites of one config, behind connections that may outlive them."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.lifecycle = Lifecycle()
        self._stack = AsyncExitStack()
        self._hosted: list[Hosted] = []
        self._servers: list[ConnectionServer] = []
        self._listening: list[list[asyncio.Server]] = []

    async def start(self, main: list[socket.socket], admin: list[socket.socket]) -> None:
        """Start everything, then accept; on an error nothing has been accepted."""
        await self._start_sites()
        for sock in (*main, *admin):
            sock.listen(BACKLOG)  # uvloop would not say that somebody else was faster
        for hosted, sockets in zip(self._hosted, (main, admin), strict=True):
            server = ConnectionServer(hosted, self._timeouts())
            self._servers.append(server)
            self._listening.append([await _listen(server, sock.dup()) for sock in sockets])

    async def succeed(self, previous: "Generation") -> None:
        """Start beside *previous*, then take over its connections; on an error nothing changes.

        What *previous* is answering stays with it until it is answered.
        """
        await self._start_sites()
        self._servers, self._listening = previous._servers, previous._listening
        for server, hosted in zip(self._servers, self._hosted, strict=True):
            server.host(hosted, self._timeouts())

    async def retire(self) -> None:
        """Let what runs finish within the drain limit, then free everything but connections."""
        await self._finish(asyncio.get_running_loop().time() + self.config.server.drain)

    def leave(self) -> None:
        """Serve on, and have clients go: by readiness, and by each answer on its connection."""
        self.lifecycle.unready = True
        for server in self._servers:
            server.is_leaving = True

    async def end(self, *, at_once: bool = False) -> None:
        """Accept nothing more, let what runs finish within the drain limit, free everything.

        The admin listener, where this can be watched, goes last.
        """
        self.lifecycle.draining = True
        self.lifecycle.leaving = True
        limits_s = (0.0, 0.0) if at_once else (self.config.server.drain, _ADMIN_DRAIN_S)
        until_s = asyncio.get_running_loop().time() + limits_s[0]
        for listening, server, limit_s in zip(
            self._listening, self._servers, limits_s, strict=True
        ):
            await accepted(listening)
            for one in listening:
                one.close()
            await server.drain(limit_s)
        await self._finish(until_s)

    def abort(self) -> None:
        """Break every connection now, and every archive that is being made."""
        for server in self._servers:
            server.abort()
        self._sites.archiver.abort()

    async def _finish(self, until_s: float) -> None:
        self.lifecycle.leaving = True
        time = asyncio.get_running_loop().time
        async with self._stack:
            limit_s = max(0.0, until_s - time())
            await asyncio.gather(*(hosted.finish(limit_s) for hosted in self._hosted))
            await self._sites.archiver.finish(until_s - time())

    async def _start_sites(self) -> None:
        self._sites = await self._stack.enter_async_context(wired(self.config, self.lifecycle))
        self._hosted = [Hosted(self._sites.main), Hosted(self._sites.admin)]

    def _timeouts(self) -> Timeouts:
        server = self.config.server
        return Timeouts(server.header_timeout, server.keepalive_timeout, server.idle_timeout)


async def _listen(server: ConnectionServer, sock: socket.socket) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    if sock.family == socket.AF_UNIX:
        return await loop.create_unix_server(server, sock=sock, backlog=BACKLOG)
    return await loop.create_server(server, sock=sock, backlog=BACKLOG)


async def serve(
    config: Config,
    reload: Reload | None,
    supervisor: Supervisor,
    on_ready: Callable[[], None] = lambda: None,
    *,
    shared: bool,
    inherited: list[socket.socket] | None = None,
    listen: Address | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP reloads; SIGQUIT, or a second signal, ends at once.

    Without *reload*, SIGHUP is a SIGTERM: it says that the terminal is gone. After a reload, the
    old config answers the requests that it has begun, until its drain limit breaks them.

    *shared*: other processes use the port too, under a parent. It also gets every signal that a
    terminal or systemd sends to all of them, and repeats it, so that only SIGQUIT means at once
    then. *inherited*: what it has bound for all of them, where clients are served. *listen*: where
    that is instead of where the config says.
    """
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, signals.put_nowait, number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # blocked while a worker starts
    with ExitStack() as sockets:
        address = listen or main_address(config.server)
        setting = _SETTINGS[type(address)] if listen is None else "--listen"
        main, admin = _sockets(config.server, address, setting, sockets, inherited, shared=shared)
        current = Generation(config)
        generations = [current]  # the last one serves, the others are on their way out
        await _started(current, main, admin)
        log.info("serving", **_where(address, main))
        supervisor.ready()
        on_ready()
        async with asyncio.TaskGroup() as leaving:
            while (number := await signals.get()) is signal.SIGHUP and reload is not None:
                supervisor.reloading()
                following = await _reloaded(current, reload)
                if following is None:
                    supervisor.refused()
                    continue
                leaving.create_task(_retired(current, generations))
                generations.append(following)
                current = following
                supervisor.ready()
            log.info("draining")
            supervisor.stopping()
            hurry = asyncio.Event()
            for impatient in SIGNALS:
                loop.add_signal_handler(impatient, _hurried, impatient, generations, hurry, shared)
            if number is signal.SIGQUIT:
                signals.put_nowait(number)
            while not signals.empty():  # more of them came while a config was read
                _hurried(signals.get_nowait(), generations, hurry, shared)
            current.leave()
            if number in (signal.SIGTERM, signal.SIGHUP):
                await _passed(current.config.server.grace, hurry)
            sockets.close()
            await current.end(at_once=hurry.is_set())
    log.info("stopped")


def _hurried(
    number: signal.Signals, generations: list[Generation], hurry: asyncio.Event, shared: bool
) -> None:
    if number is signal.SIGQUIT or not (shared or number is signal.SIGHUP):
        log.warning("ending_at_once", signal=number.name)
        hurry.set()
        for generation in generations:
            generation.abort()


def run_loop(serving: Coroutine[Any, Any, None], listen: Address | None = None) -> None:
    """Run *serving* to its end, on uvloop: the same work takes a quarter less of the processor.

    uvloop knows no vsock: there it is asyncio's own loop.
    """
    factory = asyncio.new_event_loop if isinstance(listen, Vsock) else uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serving)


async def _passed(seconds: float, unless: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await unless.wait()


async def _started(
    generation: Generation, main: list[socket.socket], admin: list[socket.socket]
) -> None:
    try:
        await generation.start(main, admin)
    except OSError as exc:  # between bind and listen somebody else was faster
        raise PortTaken(f"server: cannot listen: {exc.strerror}; choose other ports") from exc


async def _reloaded(current: Generation, reload: Reload) -> Generation | None:
    """The generation that has taken over from *current*; None if the new config cannot be used."""
    hint = "the old config stays in force"
    try:
        config, needs_restart = with_listeners_of(current.config, await _read(reload))
        following = Generation(config)
        await following.succeed(current)
    except (ConfigError, GatewayError) as exc:
        log.error("reload_failed", problems=str(exc), hint=hint)
        return None
    except Exception:  # such as having no descriptor left: no reason to stop serving
        log.exception("reload_failed", hint=hint)
        return None
    log.info("reloaded", needs_restart=needs_restart)
    return following


async def _read(reload: Reload) -> Config:
    # On a thread of its own: a config with a thousand keys takes half a second.
    pool = Pool("reload", 1)
    try:
        async with asyncio.timeout(_READING_S):
            return await asyncio.wrap_future(pool.submit(reload))
    finally:
        pool.shutdown(wait=False)


async def _retired(generation: Generation, generations: list[Generation]) -> None:
    try:
        await generation.retire()
    except Exception:  # the generation that serves has nothing to do with it
        log.exception("retire_failed", hint="something of the old config may not have been freed")
    finally:
        generations.remove(generation)


def _sockets(
    server: Server,
    address: Address,
    setting: str,
    stack: ExitStack,
    inherited: list[socket.socket] | None,
    *,
    shared: bool,
) -> tuple[list[socket.socket], list[socket.socket]]:
    if inherited is None:
        main = stack.enter_context(bound(address, setting, shared=shared))
    else:
        main = [stack.enter_context(sock) for sock in inherited]
    admin = []
    if server.admin is not None:
        beside = Tcp(server.admin.host, server.admin.port)
        admin = stack.enter_context(bound(beside, "server.admin.port", shared=shared))
    return main, admin


def _where(address: Address, main: list[socket.socket]) -> dict[str, object]:
    match address:
        case Unix():
            return {"socket": address.path}
        case Vsock():
            return {"vsock": address.port}
        case Tcp():
            return {"host": address.host, "port": main[0].getsockname()[1]}
