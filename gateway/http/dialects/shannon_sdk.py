"""The older envelope of the published `shannon-sdk`, for requests made as it makes them."""

import base64
import codecs
from collections.abc import AsyncIterator, Sequence
from functools import partial

import orjson
from aiohttp import web

from gateway.domain.errors import StreamBroken, Unavailable
from gateway.domain.model import Entry, Kind
from gateway.executors.streams import FileStream
from gateway.http.context import EXCHANGE
from gateway.http.errors import JSON
from gateway.http.listings import where_it_goes_on
from gateway.http.media_types import is_text, media_type
from gateway.http.responses import HEAD_BYTES
from gateway.http.transfer import Transfer, begun
from gateway.http.turns import TURNS, Turns
from gateway.service.workspaces import Listing


def asks(request: web.BaseRequest) -> bool:
    """Whether the request is the SDK's: a GET that declares a JSON body it does not have."""
    return "Content-Type" in request.headers and request.content_type == "application/json"


class ListingForm:
    """The SDK's listing: paths are relative, sizes are called `size_bytes`."""

    def opening(self) -> bytes:
        """The start."""
        return b'{"success":true,"files":['

    def entries(self, batch: Sequence[Entry]) -> bytes:
        """The entries."""
        return orjson.dumps([_entry(entry) for entry in batch])[1:-1]

    def closing(self, listing: Listing) -> bytes:
        """The end; the SDK ignores what it does not know, but nothing may be missing unsaid."""
        return b"]" + where_it_goes_on(listing) + b"}"


def _entry(entry: Entry) -> dict[str, object]:
    return {
        "name": entry.path.name,
        "path": entry.path.relative,
        "is_dir": entry.kind is Kind.DIRECTORY,
        "size_bytes": entry.size or 0,
    }


async def send_file(request: web.BaseRequest, stream: FileStream) -> web.StreamResponse:
    """Answer with the file inside a JSON object: text as it is, all else in base64.

    The whole file is read twice, since JSON has to know in its first byte what only the last one
    tells; memory does not grow with it.
    """
    entry = stream.entry
    size = entry.size
    if size is None:
        raise Unavailable("the executor does not say how large the file is")
    head = await stream.read(0, min(size, HEAD_BYTES))
    content_type = media_type(entry.path.name, head, complete=len(head) == size)
    turns = request[TURNS]
    is_plain = is_text(head) and await _is_utf8(stream, size, turns)
    if is_text(head) and not is_plain:
        # Text in another encoding: the type is all that tells the caller of the base64.
        content_type = "application/octet-stream"
    envelope = {"success": True, "content_type": content_type, "size_bytes": size}
    content = _escaped(stream, size, turns) if is_plain else _base64(stream, size, turns)
    headers = request[EXCHANGE].served_by(stream.source, stream.fallback)
    headers["Content-Type"] = JSON
    response = await begun(request, 200, headers)
    if request.method == "HEAD":
        return response
    transfer = Transfer(request, response)
    await transfer.write(orjson.dumps(envelope)[:-1] + b',"content":"')
    async for piece in content:
        await transfer.write(piece)
    await transfer.write(b'"}')
    return await transfer.end()


async def _is_utf8(stream: FileStream, size: int, turns: Turns) -> bool:
    decoder = _decoder()
    try:
        async for chunk in stream.chunks(0, size):
            await turns.take(partial(decoder.decode, chunk))
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


async def _escaped(stream: FileStream, size: int, turns: Turns) -> AsyncIterator[bytes]:
    decoder = _decoder()
    try:
        async for chunk in stream.chunks(0, size):
            yield await turns.take(partial(_escape, decoder, chunk))
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as exc:
        raise StreamBroken("the file changed while it was sent") from exc


async def _base64(stream: FileStream, size: int, turns: Turns) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in stream.chunks(0, size):
        data = rest + chunk
        whole = len(data) - len(data) % 3
        rest = data[whole:]
        yield await turns.take(partial(base64.b64encode, data[:whole]))
    yield base64.b64encode(rest)


def _escape(decoder: codecs.IncrementalDecoder, data: bytes) -> bytes:
    return orjson.dumps(decoder.decode(data))[1:-1]


def _decoder() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")()
