"""Sites and the connections they are served on: each may be replaced without the other."""

import asyncio
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, cast

import structlog
from aiohttp import web

from gateway.http.answers import Response
from gateway.http.boundary import boundary
from gateway.http.connection import Connection, Timeouts
from gateway.http.site import Site

log = structlog.get_logger()

_BREAKING_S = 2.0  # for handlers to notice that their connection is gone


class Crowd:
    """Connections that can be waited for to be gone."""

    def __init__(self) -> None:
        self._members: set[Connection] = set()
        self._empty: asyncio.Event | None = None  # somebody waits for nobody to be left

    def __iter__(self) -> Iterator[Connection]:
        return iter(tuple(self._members))

    def __len__(self) -> int:
        return len(self._members)

    def add(self, member: Connection) -> None:
        """Let *member* in."""
        self._members.add(member)

    def discard(self, member: Connection) -> None:
        """Let *member* go."""
        self._members.discard(member)
        if self._empty is not None and not self._members:
            self._empty.set()
            self._empty = None

    def abort(self) -> None:
        """Break all of them now."""
        for connection in self:
            connection.abort()

    async def gone(self, within_s: float) -> bool:
        """Wait until nobody is left; return whether that came true in time."""
        if not self._members:
            return True
        self._empty = empty = self._empty or asyncio.Event()
        try:
            async with asyncio.timeout(within_s):
                await empty.wait()
        except TimeoutError:
            return False
        return True


class Hosted:
    """A site, and the connections whose requests it is answering."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._busy = Crowd()

    async def answer(self, request: web.BaseRequest) -> Response:
        """Have the site answer."""
        connection = cast(Connection, request.protocol)
        self._busy.add(connection)
        try:
            return await boundary(self.site, request)
        finally:
            self._busy.discard(connection)

    async def finish(self, limit_s: float) -> None:
        """Wait until every request has been answered; break the connections that take longer."""
        if not await self._busy.gone(limit_s):
            log.warning("connections_broken", count=len(self._busy), hint="server.drain is over")
            self._busy.abort()
            await self._busy.gone(_BREAKING_S)


class ConnectionServer:
    """Makes a `Connection` of every accepted socket.

    Each request goes to the site that is hosted at that moment, so that connections live on while
    sites are replaced.
    """

    def __init__(self, hosted: Hosted, timeouts: Timeouts) -> None:
        self._hosted = hosted
        self._timeouts = timeouts
        self._open = Crowd()
        self.is_leaving = False
        self._is_draining = False
        self._watch: asyncio.TimerHandle | None = None

    def __call__(self) -> Connection:
        """The protocol of one connection."""
        return Connection(self, self._timeouts)

    def host(self, hosted: Hosted, timeouts: Timeouts) -> None:
        """Give the next requests to *hosted*; new connections have *timeouts*."""
        self._hosted = hosted
        self._timeouts = timeouts

    @property
    def shared(self) -> Mapping[web.RequestKey[Any] | str, Any]:
        """What every request brings."""
        return self._hosted.site.shared

    def answer(self, request: web.BaseRequest) -> Coroutine[Any, Any, Response]:
        """Have the site answer that is hosted now."""
        return self._hosted.answer(request)

    def opened(self, connection: Connection) -> None:
        """Know the connection."""
        self._open.add(connection)
        if self._is_draining:  # it was accepted just before
            connection.finish()
        if self._watch is None:
            self._watch_readers()

    def closed(self, connection: Connection) -> None:
        """Forget the connection: all of its bytes have left, or never will."""
        self._open.discard(connection)

    async def drain(self, limit_s: float) -> None:
        """End every connection once its answers have left completely; break what takes longer."""
        self.is_leaving = self._is_draining = True
        for connection in self._open:
            connection.finish()
        if not await self._open.gone(limit_s):
            log.warning("connections_broken", count=len(self._open), hint="server.drain is over")
            for connection in self._open:
                connection.give_up()
            await self._open.gone(_BREAKING_S)

    def abort(self) -> None:
        """Break every connection now."""
        self._open.abort()

    def _watch_readers(self) -> None:
        self._watch = None
        for connection in self._open:
            connection.cut_off_stalled()
        if len(self._open):
            loop = asyncio.get_running_loop()
            self._watch = loop.call_later(self._timeouts.idle_s / 4, self._watch_readers)
