"""Sites and the connections they are served on: each may be replaced without the other."""

import asyncio
from collections.abc import Awaitable, Iterator
from typing import Any, cast

import structlog
from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage

from gateway.http.answers import Response
from gateway.http.boundary import boundary
from gateway.http.connection import Connection, Timeouts
from gateway.http.context import EXCHANGE, Exchange
from gateway.http.site import Site

log = structlog.get_logger()

# aiohttp refuses longer heads with 400. A path of 4095 bytes may be percent-encoded threefold, and
# a key of 8 KB has to be answered like any other wrong key.
_LONGEST_LINE = 16 * 1024
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
        self._site = site
        self._busy = Crowd()
        self._loop = asyncio.get_running_loop()

    def request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        """Make the request that a connection has received."""
        state: dict[web.RequestKey[Any] | str, Any] = {
            **self._site.shared,
            EXCHANGE: Exchange(message.headers),
        }
        return web.BaseRequest(message, payload, protocol, writer, task, self._loop, state=state)

    async def answer(self, request: web.BaseRequest) -> Response:
        """Have the site answer."""
        connection = cast(Connection, request.protocol)
        self._busy.add(connection)
        try:
            return await boundary(self._site, request)
        finally:
            self._busy.discard(connection)

    async def finish(self, limit_s: float) -> None:
        """Wait until every request has been answered; break the connections that take longer."""
        if not await self._busy.gone(limit_s):
            log.warning("connections_broken", count=len(self._busy), hint="server.drain is over")
            self._busy.abort()
            await self._busy.gone(_BREAKING_S)


class ConnectionServer(web.Server):
    """Makes a `Connection` of every accepted socket.

    Each request goes to the site that is hosted at that moment, so that connections live on while
    sites are replaced.
    """

    def __init__(self, hosted: Hosted, timeouts: Timeouts) -> None:
        super().__init__(
            self._answer,  # type: ignore[arg-type]  # `Connection` sends an `Answer`, too
            request_factory=self._request,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_LINE,
        )
        self._hosted = hosted
        self._timeouts = timeouts
        self._open = Crowd()
        self._watch: asyncio.TimerHandle | None = None

    def __call__(self) -> web.RequestHandler:
        """The protocol of one connection."""
        return Connection(self, loop=self._loop, timeouts=self._timeouts, **self._kwargs)

    def host(self, hosted: Hosted, timeouts: Timeouts) -> None:
        """Give the next requests to *hosted*; new connections have *timeouts*."""
        self._hosted = hosted
        self._timeouts = timeouts

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Know the connection."""
        super().connection_made(handler, transport)
        self._open.add(cast(Connection, handler))
        if self._watch is None:
            self._watch_readers()

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        """Forget the connection: all of its bytes have left, or never will."""
        super().connection_lost(handler, exc)
        self._open.discard(cast(Connection, handler))

    async def drain(self, limit_s: float) -> None:
        """End every connection once its answers have left completely; break what takes longer."""
        for connection in self._open:
            connection.finish()
        if not await self._open.gone(limit_s):
            log.warning("connections_broken", count=len(self._open), hint="server.drain is over")
            self.abort()
            await self._open.gone(_BREAKING_S)

    def abort(self) -> None:
        """Break every connection now."""
        self._open.abort()

    def _request(self, *parts: Any) -> web.BaseRequest:
        return self._hosted.request(*parts)

    def _answer(self, request: web.BaseRequest) -> Awaitable[Response]:
        return self._hosted.answer(request)

    def _watch_readers(self) -> None:
        self._watch = None
        for connection in self._open:
            connection.cut_off_stalled()
        if len(self._open):
            self._watch = self._loop.call_later(self._timeouts.idle_s / 4, self._watch_readers)
