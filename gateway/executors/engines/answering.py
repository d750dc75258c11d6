"""Takes a backend's answers off a connection: one for each request, after few interim ones."""

import asyncio
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader

_MOST_INTERIM = 16


def bound_answers(connector: aiohttp.BaseConnector) -> None:
    """Have every connection of *connector* closed at which more comes than was asked for.

    aiohttp keeps interim answers (RFC 9110 section 15.2) until somebody reads them, and takes them
    in faster than that. An answer behind the one that was asked for it gives to the next request,
    unless both came at once (RFC 9112 section 9.2 has it that the connection is closed).
    """
    factory = partial(_Handler, loop=asyncio.get_running_loop())
    connector._factory = factory  # type: ignore[assignment]  # partial is invariant


class _Handler(ResponseHandler):
    """Takes the messages of one connection."""

    _interim = 0
    _is_answered = False

    def set_response_params(self, **params: Any) -> None:
        """Expect the answer to a new request."""
        self._is_answered = False
        super().set_response_params(**params)

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Take an answer's head, or hang up if nobody asked for it."""
        if self._is_answered:
            self._hang_up()
            return
        self._is_answered = not 100 <= data[0].code < 200
        self._interim = 0 if self._is_answered else self._interim + 1
        if self._interim <= _MOST_INTERIM:
            super().feed_data(data, size)
        elif self._hang_up():
            self.set_exception(aiohttp.ClientPayloadError("interim answers without end"))

    def _hang_up(self) -> bool:
        """Close the connection, if it is not closed already."""
        if self.transport is None or self.transport.is_closing():
            return False
        self.transport.close()
        return True
