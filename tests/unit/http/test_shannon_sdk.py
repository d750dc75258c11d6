"""The SDK's envelope is JSON that is complete or broken, whatever becomes of the file meanwhile."""

from collections.abc import AsyncIterator

import pytest

from gateway.domain.errors import StreamBroken
from gateway.executors.streams import FileStream
from gateway.http.dialects import shannon_sdk
from gateway.http.turns import Turns


class Pieces(FileStream):
    """A file that comes in these pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces

    async def read(self, first: int, count: int) -> bytes:
        return b"".join(self.pieces)[first : first + count]

    async def chunks(self, first: int, count: int) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece


async def _joined(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


async def test_text_is_escaped_across_pieces() -> None:
    stream = Pieces(b'a"\n\xc3', b"\xa9\x00", b"")

    escaped = await _joined(shannon_sdk._escaped(stream, 6, Turns()))

    assert escaped == rb"a\"\n" + "é".encode() + rb"\u0000"


@pytest.mark.parametrize("last", [b"\xc3", b"\xff", b"\xe2\x82"])
async def test_text_that_stops_being_text_breaks_the_answer(last: bytes) -> None:
    """The file was UTF-8 when it was looked through; half a character must not vanish unnoticed."""
    with pytest.raises(StreamBroken):
        await _joined(shannon_sdk._escaped(Pieces(b"abc", last), 4, Turns()))


@pytest.mark.parametrize("split", range(8))
async def test_base64_is_one_whole_whatever_the_pieces(split: int) -> None:
    data = bytes(range(250, 257 - 1)) + b"12"
    stream = Pieces(data[:split], data[split:])

    assert await _joined(shannon_sdk._base64(stream, len(data), Turns())) == b"+vv8/f7/MTI="
