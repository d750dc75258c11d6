"""A session's events as they happen, by Server-Sent Events."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from time import monotonic

from aiohttp import web
from aiohttp_sse import EventSourceResponse

from gateway.domain.errors import BadParameter, GatewayError, RetryLater
from gateway.domain.model import Principal
from gateway.domain.records import Event
from gateway.http.context import EXCHANGE, Exchange
from gateway.http.health import Lifecycle
from gateway.http.pace import PACE_LIMITS
from gateway.http.throttle import Crowding
from gateway.http.transfer import begun, complete_head

_PING_S = 15.0
_LOOK_S = 0.3  # and what is looked at may be half a second old
_LONGEST_ID = 18  # digits

StillMay = Callable[[], Awaitable[object]]
"""Raises a `GatewayError` once the caller may read no more."""


@dataclass(frozen=True, slots=True)
class Streams:
    """What bounds the streams of all organisations, and ends them."""

    lifecycle: Lifecycle
    crowding: Crowding


STREAMS = web.RequestKey("streams", Streams)


def last_event_id(request: web.BaseRequest) -> int:
    """The last event that the client has, 0 if none; raise `BadParameter`."""
    given = request.headers.get("Last-Event-ID", "0")
    if not (given.isascii() and given.isdigit() and len(given) <= _LONGEST_ID):
        raise BadParameter("Last-Event-ID: must be the id of an event")
    return int(given)


async def send_events(
    request: web.BaseRequest,
    principal: Principal,
    events: AsyncIterator[Event],
    still_may: StillMay,
) -> web.StreamResponse:
    """Send *events* until the client goes, the gateway does, or *still_may* raises.

    Raises `TooManyRequests` if *principal*'s organisation has too many streams open.

    The end is a clean one: clients come back by themselves and ask for what is behind the last
    event they have. One that takes nothing for `idle_timeout` is cut off; until then no more than
    the buffers of its connection wait for it.
    """
    exchange = request[EXCHANGE]
    response = _Stream(exchange, request[PACE_LIMITS].idle_timeout_s)
    if request.method == "HEAD":
        return await begun(request, 200, response.headers)
    streams = request[STREAMS]
    streams.crowding.enter(principal.org)
    try:
        complete_head(request, response)
        await response.prepare(request)
        exchange.status, exchange.first_byte_at = response.status, monotonic()
        async with response:
            sending = asyncio.create_task(_send(response, events))
            try:
                await _ended(sending, streams.lifecycle, still_may)
            finally:
                sending.cancel()
                await asyncio.wait([sending])
        if not sending.cancelled():
            sending.result()
    finally:
        streams.crowding.leave(principal.org)
    return response


class _Stream(EventSourceResponse):
    """The library's answer, counted for the log line."""

    def __init__(self, exchange: Exchange, send_timeout_s: float) -> None:
        super().__init__(sep="\n", send_timeout=send_timeout_s, ping_interval=_PING_S)
        del self.headers["Connection"]  # which only aiohttp knows
        self._exchange = exchange

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        await super().write(data)
        self._exchange.bytes_sent += len(data)


async def _send(response: EventSourceResponse, events: AsyncIterator[Event]) -> None:
    async for event in events:
        try:
            await response.send(event.data, id=str(event.id), event=event.kind)
        except TimeoutError:
            raise ConnectionAbortedError("the reader is too slow") from None


async def _ended(sending: asyncio.Task[None], lifecycle: Lifecycle, still_may: StillMay) -> None:
    while not (sending.done() or lifecycle.leaving):
        await asyncio.wait([sending], timeout=_LOOK_S)
        try:
            await still_may()
        except RetryLater:
            continue  # nobody can tell now, and no event comes out of the store either
        except GatewayError:
            return
