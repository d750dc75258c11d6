"""The file is taken out of its JSON however the text is cut into pieces."""

import base64

import pytest

from gateway.domain.errors import ProtocolFault, TooLarge
from gateway.executors.firecracker.envelope import Envelope

FILE = bytes(range(256)) + b"!"
TEXT = b'{"success":true,"content":"%b","size_bytes":257,"error":null}' % base64.b64encode(FILE)


def taken(pieces: list[bytes], most: int = 1000) -> bytes:
    envelope = Envelope("content", most, TooLarge("too large"))
    data = b"".join([envelope.feed(piece) for piece in pieces])
    envelope.end()
    return data


@pytest.mark.parametrize("width", [1, 2, 3, 5, 7, 26, 27, 28, 29, 100, 1000])
def test_pieces_of_any_width_make_the_same_file(width):
    pieces = [TEXT[first : first + width] for first in range(0, len(TEXT), width)]

    assert taken(pieces) == FILE


def test_a_text_that_ends_anywhere_else_is_a_fault():
    for end in range(len(TEXT)):
        with pytest.raises(ProtocolFault):
            taken([TEXT[:end]])
        with pytest.raises(ProtocolFault):
            taken([TEXT[: end // 2], TEXT[end // 2 : end]])


@pytest.mark.parametrize(
    "behind", ['"success":false', '"content":"eA=="', '"success":"true"', '"success":1', '"x"']
)
def test_what_stands_behind_it_can_take_it_all_back(behind):
    with pytest.raises(ProtocolFault):
        taken([TEXT[:-1] + b"," + behind.encode() + b"}"])


def test_the_cap_is_exact():
    assert taken([TEXT], most=len(FILE)) == FILE
    with pytest.raises(TooLarge):
        taken([TEXT], most=len(FILE) - 1)


@pytest.mark.parametrize(("length", "is_refused"), [(None, False), (1400, False), (10_000, True)])
def test_a_length_that_is_too_much_is_refused_unread(length, is_refused):
    envelope = Envelope("content", 1000, TooLarge("too large"))
    if is_refused:
        with pytest.raises(TooLarge):
            envelope.expect(length)
    else:
        envelope.expect(length)


def test_no_text_makes_the_search_for_the_content_slow():
    """4 KiB that nearly match, fed byte by byte: each further byte begins the search again."""
    text = b'{"a":' + b'"x' * 2000

    with pytest.raises(ProtocolFault):
        taken([bytes([byte]) for byte in text * 2])
