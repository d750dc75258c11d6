"""What a connection does with a request that comes in the very moment in which it is to end."""

import asyncio
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from gateway.http.answers import Answer, Response
from gateway.http.connection import Connection, Timeouts
from tests.wire import Wire, head


class Alone:
    """The host of one connection."""

    shared: Mapping[web.RequestKey[Any] | str, Any] = {}

    def __init__(self) -> None:
        self.is_leaving = False
        self.connection: asyncio.Future[Connection] = asyncio.Future()

    def opened(self, connection: Connection) -> None:
        self.connection.set_result(connection)

    def closed(self, connection: Connection) -> None:
        pass

    async def answer(self, request: web.BaseRequest) -> Response:
        return Answer(200, b"content")


async def test_a_request_that_has_just_come_is_answered_before_the_end() -> None:
    host = Alone()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(host, Timeouts(5, 5, 5)), "127.0.0.1")
    async with server, await Wire.connect(server.sockets[0].getsockname()[1]) as wire:
        connection = await host.connection
        await asyncio.sleep(0)  # it waits now
        connection.data_received(head("/"))
        host.is_leaving = True
        connection.finish()
        answer = await wire.answer()
        data, end = await wire.rest()

    assert (answer.body, answer.header("Connection")) == (b"content", "close")
    assert (data, end) == (b"", "closed")
