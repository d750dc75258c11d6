"""The records of a zip file (PKWARE APPNOTE 6.3.10), as far as our archives need them."""

import struct
from calendar import timegm
from functools import lru_cache
from stat import S_IFDIR, S_IFREG
from time import gmtime
from typing import NamedTuple

from gateway.domain.archives import Member

STORED = 0
DEFLATED = 8

_STREAMED = 0x0008  # sizes and CRC stand behind the data
_UTF8 = 0x0800
_PLAIN_VERSION, _ZIP64_VERSION = 20, 45
_MADE_BY = 3 << 8 | _ZIP64_VERSION  # Unix
_MOST_16, _MOST_32 = 0xFFFF, 0xFFFFFFFF
_LARGE = 0xFF000000  # what is stored in deflate's blocks grows by 5 bytes in 65,535

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_TIMESTAMP = struct.Struct("<2sHBl")  # Info-ZIP's "UT": the modification time alone
_DESCRIPTOR = struct.Struct("<4s3L")
_DESCRIPTOR_64 = struct.Struct("<4sL2Q")
_EXTRA_64 = struct.Struct("<2H")
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")

_FIRST_TIME = timegm((1980, 1, 1, 0, 0, 0))
_LAST_TIME = timegm((2107, 12, 31, 23, 59, 58))
_IS_DIRECTORY = 0x10  # MS-DOS' attribute


class Body(NamedTuple):
    """What the records say of a member's data."""

    method: int
    crc: int
    compressed: int
    size: int


EMPTY = Body(STORED, 0, 0, 0)


def local_header(name: bytes, member: Member, body: Body) -> bytes:
    """The record before data that is all known."""
    stamp = _timestamp(member.mtime_ns)
    return b"".join(
        (
            _LOCAL.pack(
                *(b"PK\3\4", _PLAIN_VERSION, _UTF8, body.method, *_dos_time(member.mtime_ns)),
                *(body.crc, body.compressed, body.size, len(name), len(stamp)),
            ),
            name,
            stamp,
        )
    )


def local_size(name: bytes, member: Member) -> int:
    """The length of that record."""
    return _LOCAL.size + len(name) + len(_timestamp(member.mtime_ns))


def streamed_header(name: bytes, member: Member) -> bytes:
    """The record before deflated data of which only the size is known, nearly."""
    stamp = _timestamp(member.mtime_ns)
    version, size = _PLAIN_VERSION, 0
    if member.size >= _LARGE:
        stamp = _EXTRA_64.pack(1, 16) + bytes(16) + stamp
        version, size = _ZIP64_VERSION, _MOST_32
    return b"".join(
        (
            _LOCAL.pack(
                *(b"PK\3\4", version, _UTF8 | _STREAMED, DEFLATED, *_dos_time(member.mtime_ns)),
                *(0, size, size, len(name), len(stamp)),
            ),
            name,
            stamp,
        )
    )


def descriptor(member: Member, body: Body) -> bytes:
    """The record behind streamed data."""
    form = _DESCRIPTOR_64 if member.size >= _LARGE else _DESCRIPTOR
    return form.pack(b"PK\7\b", body.crc, body.compressed, body.size)


def central_header(
    name: bytes, member: Member, body: Body, offset: int, *, streamed: bool
) -> bytes:
    """The record in the directory at the end, of a member whose local header is at *offset*."""
    extra = b""
    version, flags = _PLAIN_VERSION, _UTF8
    compressed, size = body.compressed, body.size
    if streamed:
        flags |= _STREAMED
        if member.size >= _LARGE:
            version = _ZIP64_VERSION
            extra = struct.pack("<2Q", size, compressed)
            compressed = size = _MOST_32
    if offset >= _MOST_32:
        version = _ZIP64_VERSION
        extra += struct.pack("<Q", offset)
        offset = _MOST_32
    if extra:
        extra = _EXTRA_64.pack(1, len(extra)) + extra
    extra += _timestamp(member.mtime_ns)
    return b"".join(
        (
            _CENTRAL.pack(
                *(b"PK\1\2", _MADE_BY, version, flags, body.method, *_dos_time(member.mtime_ns)),
                *(body.crc, compressed, size, len(name), len(extra), 0, 0, 0),
                *(_attributes(member), offset),
            ),
            name,
            extra,
        )
    )


def end_records(count: int, size: int, offset: int) -> bytes:
    """The end of an archive with a directory of *count* records, *size* bytes, at *offset*."""
    records = b""
    if count >= _MOST_16 or size >= _MOST_32 or offset >= _MOST_32:
        records = _END_64.pack(
            *(b"PK\6\6", _END_64.size - 12, _MADE_BY, _ZIP64_VERSION, 0, 0),
            *(count, count, size, offset),
        ) + _LOCATOR_64.pack(b"PK\6\7", 0, offset + size, 1)
    few, short, near = min(count, _MOST_16), min(size, _MOST_32), min(offset, _MOST_32)
    return records + _END.pack(b"PK\5\6", 0, 0, few, few, short, near, 0)


def _attributes(member: Member) -> int:
    if member.is_directory:
        return (S_IFDIR | 0o755) << 16 | _IS_DIRECTORY
    return (S_IFREG | (0o755 if member.mode & 0o111 else 0o644)) << 16


def _timestamp(mtime_ns: int | None) -> bytes:
    """The time in UTC, unless it does not fit: then there is only MS-DOS' local time."""
    if mtime_ns is None or not 0 <= (seconds := mtime_ns // 1_000_000_000) < 1 << 31:
        return b""
    return _TIMESTAMP.pack(b"UT", 5, 1, seconds)


def _dos_time(mtime_ns: int | None) -> tuple[int, int]:
    return _dos_time_of(0 if mtime_ns is None else mtime_ns // 1_000_000_000)


@lru_cache(4096)
def _dos_time_of(seconds: int) -> tuple[int, int]:
    at = gmtime(min(max(seconds, _FIRST_TIME), _LAST_TIME))
    time = at.tm_hour << 11 | at.tm_min << 5 | at.tm_sec // 2
    return time, (at.tm_year - 1980) << 9 | at.tm_mon << 5 | at.tm_mday
