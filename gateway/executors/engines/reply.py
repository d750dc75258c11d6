"""An answer of an HTTP backend whose head has come; nothing of it is believed unchecked."""

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

import aiohttp
from pydantic import TypeAdapter, ValidationError

from gateway.domain.errors import ProtocolFault, StreamBroken
from gateway.executors.engines.inflow import SocketInflow
from gateway.executors.streams import Inflow
from gateway.system.pool import Pool

T = TypeVar("T")

_WORTH_A_CONNECTION = 4 * 1024 * 1024  # bytes of a body that is moved without being read
_PARSED_INLINE = 64 * 1024  # bytes of JSON; more is parsed in a thread, off the loop
MOST_JSON = 16 * 1024 * 1024


class Reply:
    """An answer whose head has come; large JSON is parsed in *parsers*."""

    def __init__(self, response: aiohttp.ClientResponse, parsers: Pool) -> None:
        self._response = response
        self._parsers = parsers
        self.status = response.status
        self.headers = response.headers
        self.length = _length(response)

    @property
    def content_type(self) -> str:
        """The media type without parameters, in lower case; empty if it is not told."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body; raise `StreamBroken` unless it is as long as it was said to be."""
        return _Chunks(self._response.content)

    def inflow(self, held: bytes) -> Inflow | None:
        """The rest of the body where it comes in, behind *held*, which has been read of it.

        None if `chunks` is as good: it leaves a connection that can be used again.
        """
        if self.length is None or self.length < _WORTH_A_CONNECTION:
            return None
        return SocketInflow.of(self._response, held)

    def close(self) -> None:
        """Give the connection back if all has been read, else end it."""
        end(self._response)

    async def body(self, most: int) -> bytes:
        """The whole body; raise `ProtocolFault` if it is cut short or has over *most* bytes."""
        if self.length is not None and self.length > most:
            raise ProtocolFault("the executor's answer is too large")
        pieces, total = [], 0
        try:
            async for chunk in self.chunks():
                total += len(chunk)
                if total > most:
                    raise ProtocolFault("the executor's answer is too large")
                pieces.append(chunk)
        except StreamBroken as exc:
            raise ProtocolFault(str(exc)) from exc
        return b"".join(pieces)

    async def json(self, form: TypeAdapter[T], most: int = MOST_JSON) -> T:
        """The body as JSON of that *form*; raise `ProtocolFault` if it is not."""
        if self.content_type not in ("application/json", "application/problem+json"):
            raise ProtocolFault("the executor's answer is not JSON")
        body = await self.body(most)
        try:
            if len(body) <= _PARSED_INLINE:
                return form.validate_json(body)
            return await asyncio.wrap_future(self._parsers.submit(form.validate_json, body))
        except ValidationError as exc:
            # Not the exception's own text: it shows what the backend sent.
            first = exc.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise ProtocolFault("the executor's answer has an unexpected form") from ValueError(
                f"{where}: {first['type']}"[:200]
            )


class _Chunks(AsyncIterator[bytes]):
    # Not a generator: the loop keeps a list of those, which costs more than a small piece.

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._content.readany()
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise StreamBroken("the executor's answer was cut short") from exc
        if not chunk:
            raise StopAsyncIteration
        return chunk


def end(response: aiohttp.ClientResponse) -> None:
    """Give the connection back if all has been read, else end it."""
    response.release() if response.content.at_eof() else response.close()


def _length(response: aiohttp.ClientResponse) -> int | None:
    """How long the body will be; raise `ProtocolFault` if nothing tells where it ends."""
    headers = response.headers
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ProtocolFault("the executor compresses although it was asked not to")
    lengths = headers.getall("Content-Length", [])
    if headers.get("Transfer-Encoding", "").lower() == "chunked":
        return None
    if response.status in (204, 304) or response.method == "HEAD":
        return 0
    if len(lengths) != 1 or not (lengths[0].isascii() and lengths[0].isdigit()):
        raise ProtocolFault("the executor's answer does not say how long it is")
    return int(lengths[0])
