"""What is deflated: complete by itself, whatever the data begins with."""

import zlib

import pytest

from gateway.archive import compress
from tests.unit.archive.trees import noise, text

_HEAD = b"abc"
_WINDOW = 32 << 10

DATA = {
    "one byte again and again": bytes(100_000),
    "the highest byte again and again": b"\xff" * 100_000,
    "the beginning behind a zero": (_HEAD + b"\0") * 20_000,
    "the beginning behind a zero, a window away": (
        _HEAD + noise(1, _WINDOW - len(_HEAD)) + b"\0" + _HEAD + text(1, 30_000)
    ),
    "the beginning behind every byte": 40 * b"".join(bytes((n,)) + _HEAD for n in range(256)),
    "text": text(2, 300_000),
    "noise": noise(2, 50_000),
    "little": text(3, 100),
    "nothing": b"",
}


@pytest.mark.parametrize("data", DATA.values(), ids=DATA.keys())
def test_what_is_deflated_refers_to_nothing_before_it(data: bytes) -> None:
    pieces = b"".join(compress.deflate_piece(data, last=False, stored=False))
    last = b"".join(compress.deflate_piece(data, last=True, stored=False))

    assert zlib.decompress(compress.deflated(data), -15) == data
    assert zlib.decompress(pieces + last, -15) == 2 * data
