"""Compresses what is worth it, in pieces that stand for themselves and can be put together."""

import struct
import zlib
from collections.abc import Sequence
from types import ModuleType

import isal
from isal import isal_zlib

PACKAGES: tuple[ModuleType, ...] = (isal,)
"""What a process that compresses has to find."""

try:
    import zstandard

    PACKAGES += (zstandard,)
except ModuleNotFoundError:  # the extra [zstd]
    pass

GZIP_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\x04\xff"  # RFC 1952: no name, no time, fast, any system

# ISA-L's level 0 lets random data grow by a quarter. Levels 1 and 2 look up the third byte of a
# stream by a hash of where the stream's state lies in memory, so that equal data may give other
# bytes (ISA-L 2.31: `.write_first_byte` in igzip_icf_body_h1_gr_bt.asm takes rcx, which is still
# the first argument). Behind a dictionary they don't; level 3, which is as fast for small files,
# never does.
_LEVEL, _SMALL_LEVEL = 1, 3
_SMALL = 16 << 10  # bytes
_RAW = -15  # no zlib or gzip framing around the deflate data
_PROBE = 4096  # bytes from the middle
_WORTH_IT = 0.95
_LONGEST_STORED = 65_535  # bytes of one stored block (RFC 1951, 3.2.4)
_SHORTEST_MATCH = 4  # bytes, in ISA-L
_WINDOW = 32 << 10

_STORED_BLOCK = struct.Struct("<BHH")
_GZIP_TRAILER = struct.Struct("<LL")

Buffers = Sequence[bytes | memoryview]


def crc32(data: bytes, before: int = 0) -> int:
    """The CRC that zip and gzip have."""
    return isal_zlib.crc32(data, before)


def crc32_of_both(first: int, second: int, second_length: int) -> int:
    """The CRC of two pieces behind each other."""
    return isal_zlib.crc32_combine(first, second, second_length)


def compresses(data: bytes) -> bool:
    """Whether it is worth the time; judged by some bytes from the middle."""
    middle = max(0, (len(data) - _PROBE) // 2)
    probe = data[middle : middle + _PROBE]
    return len(deflated(probe)) < _WORTH_IT * len(probe)


def deflated(data: bytes) -> bytes:
    """All of a file's data as a complete deflate stream."""
    if len(data) <= _SMALL:
        return isal_zlib.compress(data, _SMALL_LEVEL, _RAW)
    return b"".join(_deflated(data, zlib.Z_FINISH))


def deflate_piece(data: bytes, *, last: bool, stored: bool) -> Buffers:
    """One piece of a deflate stream that begins and, unless it is the *last*, ends at a byte.

    No piece refers to what stands before it.
    """
    if stored or not compresses(data):
        return _stored_blocks(data, last=last)
    return _deflated(data, zlib.Z_FINISH if last else zlib.Z_FULL_FLUSH)


def stored_size(size: int) -> int:
    """How long `deflate_piece` makes a last piece of so many bytes if it stores it."""
    return size + _STORED_BLOCK.size * max(1, -(-size // _LONGEST_STORED))


def gzip_trailer(crc: int, size: int) -> bytes:
    """What stands behind the last piece of a gzip file's data."""
    return _GZIP_TRAILER.pack(crc, size & 0xFFFFFFFF)


def zstd_frame(data: bytes) -> bytes:
    """One frame of a zstd file, which may have many; with a checksum."""
    import zstandard  # an extra

    return zstandard.ZstdCompressor(level=1, write_checksum=True).compress(data)


def _deflated(data: bytes, flush: int) -> tuple[bytes, bytes]:
    dictionary = _unused(data)
    if dictionary is None:
        compressor = isal_zlib.compressobj(_SMALL_LEVEL, wbits=_RAW)
    else:
        compressor = isal_zlib.compressobj(_LEVEL, wbits=_RAW, zdict=dictionary)
    return compressor.compress(data), compressor.flush(flush)


def _unused(data: bytes) -> bytes | None:
    """A dictionary of one byte that no match can begin with: who unpacks the data has none."""
    head = data[: _SHORTEST_MATCH - 1]
    for number in range(256):
        byte = bytes((number,))
        if data.find(byte + head, 0, _WINDOW + len(head)) < 0:
            return byte
    return None


def _stored_blocks(data: bytes, *, last: bool) -> list[bytes | memoryview]:
    view = memoryview(data)
    blocks: list[bytes | memoryview] = []
    for first in range(0, len(data) or 1, _LONGEST_STORED):
        block = view[first : first + _LONGEST_STORED]
        is_last = last and first + _LONGEST_STORED >= len(data)
        blocks += (_STORED_BLOCK.pack(is_last, len(block), len(block) ^ 0xFFFF), block)
    return blocks
