"""Keeps a backend from filling memory with interim answers (RFC 9110 section 15.2)."""

import asyncio
from functools import partial

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader

_MOST = 16


def bound_interim_answers(connector: aiohttp.BaseConnector) -> None:
    """Have every connection of *connector* closed at which more than a few of them come in a row.

    aiohttp keeps them all until somebody reads them, and takes them in faster than that.
    """
    factory = partial(_Handler, loop=asyncio.get_running_loop())
    connector._factory = factory  # type: ignore[assignment]  # partial is invariant


class _Handler(ResponseHandler):
    """Takes the messages of one connection."""

    _interim = 0

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        self._interim = self._interim + 1 if 100 <= data[0].code < 200 else 0
        if self._interim <= _MOST:
            super().feed_data(data, size)
        elif self.transport is not None and not self.transport.is_closing():
            self.transport.close()
            self.set_exception(aiohttp.ClientPayloadError("interim answers without end"))
