"""What lies in the spool's directory: whom it belongs to, who uses it, what is of no use."""

import errno
import fcntl
import os
import re
import stat
import time
from contextlib import ExitStack, suppress
from typing import Final, NamedTuple

from gateway.archive.part import COMPLETE, GROWING, is_made, take_back, try_lock
from gateway.system.descriptor import Descriptor

KEY: Final = re.compile(r"[0-9a-f]{32}(?:\.[a-z0-9]{1,8}){0,3}")
READING: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_NAME: Final = re.compile(rf"(part-|maker-|)({KEY.pattern})")
_NOT_OURS: Final = (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EACCES)


class Found(NamedTuple):
    """An entry or a part, held against eviction; *maker* tells of a part whether it is made on."""

    data: Descriptor
    maker: Descriptor | None

    def close(self) -> None:
        """Let go of it."""
        self.data.close()
        if self.maker is not None:
            self.maker.close()


class Stock(NamedTuple):
    """Entries and parts by key."""

    entries: dict[str, os.stat_result]
    parts: dict[str, tuple[int, int]]  # bytes reserved, and written


def take_stock(directory: int) -> Stock:
    """What there is; only with the lock, for what nobody can use is removed."""
    stock = Stock({}, {})
    for name in sorted(os.listdir(directory)):  # a maker comes before its part
        match = _NAME.fullmatch(name)
        if match is None:
            continue
        kind, key = match.groups()
        with suppress(FileNotFoundError):  # its maker discards it, or somebody removes it by hand
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if kind == "" and _is_ours(found, COMPLETE):
                stock.entries[key] = found
            elif kind == "maker-" and _is_at_work(directory, name):
                stock.parts[key] = found.st_size, _size_of(directory, f"part-{key}")
            elif kind != "part-" or key not in stock.parts:
                _remove(directory, name)
    return stock


def find_part(directory: int, key: str) -> Found | None:
    """Open the entry while somebody makes it, and hold it."""
    with ExitStack() as stack:
        data = _open(stack, directory, f"part-{key}")
        maker = _open(stack, directory, f"maker-{key}")
        if data is None or maker is None or not is_made(maker):
            return None
        if not _pin(data, GROWING, COMPLETE):
            return None
        stack.pop_all()
        return Found(data, maker)


def find_entry(directory: int, key: str) -> Found | None:
    """Open the complete entry and hold it; that counts as a use."""
    with ExitStack() as stack:
        data = _open(stack, directory, key)
        if data is None or not _pin(data, COMPLETE):
            return None
        now = time.time_ns()
        os.utime(data.fd, ns=(now, now))
        stack.pop_all()
        return Found(data, None)


def evict(directory: int, key: str) -> bool:
    """Remove the entry; False if somebody holds it."""
    with ExitStack() as stack:
        file = _open(stack, directory, key)
        if file is not None and not try_lock(file.fd, fcntl.LOCK_EX):
            return False
        with suppress(FileNotFoundError):
            os.unlink(key, dir_fd=directory)
        return True


def _is_at_work(directory: int, maker: str) -> bool:
    with ExitStack() as stack:
        file = _open(stack, directory, maker)
        return file is not None and is_made(file)


def _size_of(directory: int, part: str) -> int:
    try:
        return os.stat(part, dir_fd=directory, follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def _remove(directory: int, name: str) -> None:
    """Remove what has a name of ours and is of no use; a directory stays."""
    with ExitStack() as stack, suppress(IsADirectoryError):
        file = _open(stack, directory, name, os.O_RDWR)
        if file is not None and _is_ours(os.fstat(file.fd), GROWING):
            take_back(file.fd)
        os.unlink(name, dir_fd=directory)


def _pin(data: Descriptor, *states: int) -> bool:
    """Hold the file against eviction; False if that comes too late, or it is none of ours.

    A part without a name may be one that a dead maker left, beside the file of the next maker.
    """
    return try_lock(data.fd, fcntl.LOCK_SH) and _is_ours(os.fstat(data.fd), *states)


def _is_ours(found: os.stat_result, *states: int) -> bool:
    return (
        stat.S_ISREG(found.st_mode)
        and stat.S_IMODE(found.st_mode) in states
        and found.st_uid == os.geteuid()
        and found.st_nlink == 1
    )


def _open(
    stack: ExitStack, directory: int, name: str, flags: int = os.O_RDONLY
) -> Descriptor | None:
    """Open for as long as *stack* says; None if there is nothing that could be ours."""
    try:
        file = Descriptor(os.open(name, READING | flags, dir_fd=directory))
    except OSError as exc:
        if exc.errno in _NOT_OURS:
            return None
        raise
    stack.callback(file.close)
    return file
