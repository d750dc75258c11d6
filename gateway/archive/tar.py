"""The headers of a tar file: ustar, with PAX records where that is too small (POSIX.1-2001)."""

from functools import cache
from tarfile import DIRTYPE, PAX_FORMAT, REGTYPE, TarInfo

from gateway.domain.archives import Member

BLOCK = 512
END = bytes(2 * BLOCK)

_LONGEST_NAME = 100
_LARGE = 8**11  # what a number in ustar stays below
_SIZE_AND_TIME = slice(124, 148)
_CHECKSUM = slice(148, 156)


def header(name: str, member: Member) -> bytes:
    """What stands before the member's data."""
    mtime = max(0, (member.mtime_ns or 0) // 1_000_000_000)
    mode = 0o755 if member.is_directory or member.mode & 0o111 else 0o644
    if not _is_plain(name, member.size, mtime):
        info = _info(member.is_directory, mode)
        info.name, info.size, info.mtime = name, member.size, mtime
        return info.tobuf(PAX_FORMAT, "utf-8", "strict")
    # What the standard library would make of it, in a sixth of the time.
    block = bytearray(_blank(member.is_directory, mode))
    block[: len(name)] = name.encode()
    block[_SIZE_AND_TIME] = b"%011o\0%011o\0" % (member.size, mtime)
    block[_CHECKSUM] = b"%06o\0 " % sum(block)
    return bytes(block)


def padding(size: int) -> int:
    """How many zeros stand behind data of *size* bytes."""
    return -size % BLOCK


def _is_plain(name: str, size: int, mtime: int) -> bool:
    return len(name) <= _LONGEST_NAME and name.isascii() and size < _LARGE and mtime < _LARGE


@cache
def _blank(is_directory: bool, mode: int) -> bytes:
    """A header without name, size and time, and with the blanks that a checksum is made over."""
    block = bytearray(_info(is_directory, mode).tobuf(PAX_FORMAT))
    block[_CHECKSUM] = b" " * 8
    return bytes(block)


def _info(is_directory: bool, mode: int) -> TarInfo:
    info = TarInfo()
    info.type = DIRTYPE if is_directory else REGTYPE
    info.mode = mode
    return info
