"""The headers of a tar, read so strictly that no two readers could disagree about one.

Sources: POSIX.1-2017 `pax` ("ustar Interchange Format", "pax Header Block") and GNU tar's manual,
"Basic Tar Format". Python's own reader guesses where a header is odd: it takes `0o17`, `1_0` and
negative numbers for sizes, and skips what it cannot read.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from gateway.domain.errors import ProtocolFault

BLOCK: Final = 512
_LARGEST: Final = 2**63 - 1
_OCTAL: Final = re.compile(rb" *([0-7]*)[ \0]*")
_RECORD: Final = re.compile(rb"([1-9][0-9]{0,6}) ([^=]+)=")
_DECIMAL: Final = re.compile(rb"[0-9]{1,19}")
_MOMENT: Final = re.compile(rb"(-?)([0-9]{1,19})(?:\.([0-9]*))?")
_POSIX: Final = b"ustar\0"
_CHECKSUM: Final = slice(148, 156)

FILES: Final = b"07\0"  # contiguous ones (7) are of systems that know such; NUL is of old tars
HARD_LINK: Final = b"1"
SYMLINK: Final = b"2"
DIRECTORY: Final = b"5"
BODILESS: Final = b"123456"  # links, devices, directories, FIFOs
PAX_GLOBAL: Final = b"g"
GNU_NAMES: Final = {b"L": b"path", b"K": b"linkpath"}
EXTENDED: Final = b"xXgLK"  # of POSIX, of Solaris, of POSIX for all that follow, and GNU's two
VOLUME_LABEL: Final = b"V"
# Sparse files, parts of files, and directories with lists in them: what they mean stands in their
# bodies.
UNREAD: Final = b"SMDN"


class Header(NamedTuple):
    """What a header, and the extended ones before it, say of a member.

    *size* is that of the body that follows.
    """

    kind: bytes
    path: bytes
    target: bytes
    size: int
    mtime_ns: int
    mode: int


def header(block: bytes, extended: Mapping[bytes, bytes]) -> Header:
    """The member that *block* begins; raise `ProtocolFault` if it is no header."""
    if _number(block[_CHECKSUM]) != sum(block) - sum(block[_CHECKSUM]) + 8 * ord(" "):
        raise fault("a header's checksum is wrong")
    path = _text(block[:100])
    if block[257:263] == _POSIX and (prefix := _text(block[345:500])):
        path = prefix + b"/" + path
    size = _number(block[124:136])
    mtime_ns = _number(block[136:148]) * 10**9
    if b"size" in extended:
        size = _decimal(extended[b"size"])
    if b"mtime" in extended:
        mtime_ns = _moment(extended[b"mtime"])
    if not 0 <= size <= _LARGEST or abs(mtime_ns) > _LARGEST:
        raise fault("a number that cannot be")
    return Header(
        kind_of(block),
        extended.get(b"path", path),
        extended.get(b"linkpath", _text(block[157:257])),
        size,
        mtime_ns,
        _number(block[100:108]) & 0o7777,
    )


def kind_of(block: bytes) -> bytes:
    """What kind of member a header is of, or that it is an extended one."""
    return block[156:157]


def records(body: bytes) -> Mapping[bytes, bytes]:
    """The records of a PAX header; raise `ProtocolFault` if they are none."""
    found: dict[bytes, bytes] = {}
    first = 0
    while first < len(body):
        start = _RECORD.match(body, first)
        end = first + int(start[1]) if start else 0
        if start is None or not start.end() < end <= len(body) or body[end - 1 : end] != b"\n":
            raise fault("a record that is none")
        found[start[2]] = body[start.end() : end - 1]
        first = end
    return found


def gnu_name(body: bytes) -> bytes:
    """The long name in the body of GNU's own header."""
    return _text(body)


def fault(what: str) -> ProtocolFault:
    """The verdict on a tar in which there is *what*."""
    error = ProtocolFault("the executor's tar is malformed")
    error.__cause__ = ValueError(what)
    return error


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _number(field: bytes) -> int:
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    if field[0] == 0xFF:
        return int.from_bytes(field, "big", signed=True)
    digits = _OCTAL.fullmatch(field)
    if digits is None:
        raise fault("a number that is none")
    return int(digits[1] or b"0", 8)


def _decimal(text: bytes) -> int:
    if _DECIMAL.fullmatch(text) is None:
        raise fault("a size that is none")
    return int(text)


def _moment(text: bytes) -> int:
    found = _MOMENT.fullmatch(text)
    if found is None:
        raise fault("a time that is none")
    sign, seconds, fraction = found.groups(b"")
    ns = int(seconds) * 10**9 + int(fraction[:9].ljust(9, b"0"))
    return -ns if sign else ns
