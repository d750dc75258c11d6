"""One serving process: listens, reloads its config without losing a request, drains, ends."""

import asyncio
import signal
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack

import structlog
from aiohttp import web

from gateway.app import wired
from gateway.config.errors import ConfigError
from gateway.config.model import Config, Server
from gateway.domain.errors import GatewayError
from gateway.http.connection import Runner
from gateway.http.health import Lifecycle
from gateway.listeners import bind

log = structlog.get_logger()

_BACKLOG = 1024


class Generation:
    """The applications of one config, on sockets that outlive them."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.lifecycle = Lifecycle()
        self._stack = AsyncExitStack()
        self._runners: list[tuple[Runner, list[socket.socket]]] = []

    async def start(self, main: list[socket.socket], admin: list[socket.socket]) -> None:
        """Start everything, then accept; on an error nothing has been accepted."""
        server = self.config.server
        async with AsyncExitStack() as stack:
            apps = await stack.enter_async_context(wired(self.config, self.lifecycle))
            for app, sockets in ((apps.main, main), (apps.admin, admin)):
                runner = Runner(
                    app,
                    header_timeout=server.header_timeout,
                    keepalive_timeout=server.keepalive_timeout,
                    drain=server.drain,
                )
                await runner.setup()
                stack.push_async_callback(runner.cleanup)
                self._runners.append((runner, sockets))
            self._stack = stack.pop_all()
        for runner, sockets in self._runners:
            for sock in sockets:
                await web.SockSite(runner, sock.dup(), backlog=_BACKLOG).start()

    async def end(self) -> None:
        """Accept nothing more, let what runs finish within the drain limit, free everything."""
        self.lifecycle.draining = True
        await self._stack.aclose()


async def serve(
    config: Config, reload: Callable[[], Config], on_ready: Callable[[], None], *, shared: bool
) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP reloads. *shared*: other processes use the port too."""
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, signals.put_nowait, number)
    with ExitStack() as sockets:
        main, admin = _sockets(config.server, sockets, shared=shared)
        current = Generation(config)
        await current.start(main, admin)
        log.info("serving", host=config.server.host, port=config.server.port)
        on_ready()
        async with asyncio.TaskGroup() as leaving:
            while (number := await signals.get()) is signal.SIGHUP:
                following = await _reloaded(current, reload, main, admin)
                if following is not current:
                    leaving.create_task(current.end())
                    current = following
            log.info("draining")
            current.lifecycle.unready = True
            if number is signal.SIGTERM:
                await asyncio.sleep(current.config.server.grace)
            sockets.close()
            await current.end()
    log.info("stopped")


async def _reloaded(
    current: Generation,
    reload: Callable[[], Config],
    main: list[socket.socket],
    admin: list[socket.socket],
) -> Generation:
    """The generation that takes over: *current* itself if the new config cannot be used."""
    try:
        following = Generation(reload())
        await following.start(main, admin)
    except (ConfigError, GatewayError) as exc:
        log.error("reload_failed", problems=str(exc), hint="the old config stays in force")
        return current
    log.info("reloaded", needs_restart=_needs_restart(current.config, following.config))
    return following


def _needs_restart(old: Config, new: Config) -> list[str]:
    return [
        f"server.{field}"
        for field in ("host", "port", "workers", "admin")
        if getattr(old.server, field) != getattr(new.server, field)
    ]


def _sockets(
    server: Server, stack: ExitStack, *, shared: bool
) -> tuple[list[socket.socket], list[socket.socket]]:
    main = bind(server.host, server.port, "server.port", shared=shared)
    admin = []
    if server.admin is not None:
        admin = bind(server.admin.host, server.admin.port, "server.admin.port", shared=shared)
    for sock in (*main, *admin):
        stack.enter_context(sock)
    return main, admin
