"""The spool's directory, which processes share: what is complete, who makes what, what must go.

    <key>         a complete entry
    part-<key>    one that is being made; it gets its own name when it is complete
    maker-<key>   its maker holds a lock on this while it lives, and its length is what is reserved

Whoever reads an entry or a part holds a shared lock on it, and only what nobody holds is evicted:
a file that is open takes up its space without a name, too. The permissions of the data say how
things stand, so that one who has it open sees that with the size, whatever happens to the names.

All of this may wait for the disk, or for another process: call it in a pool.
"""

import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final, NamedTuple

from gateway.archive.part import COMPLETE, GROWING, Part, is_made, take_back, try_lock
from gateway.domain.errors import Unavailable
from gateway.system.descriptor import Descriptor

_KEY: Final = re.compile(r"[0-9a-f]{32}(?:\.[a-z0-9]{1,8}){0,3}")
_NAME: Final = re.compile(rf"(part-|maker-|)({_KEY.pattern})")
_READING: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAKING: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_OURS: Final = (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EACCES)
_MOST_ENTRIES: Final = 10_000  # all of them are looked at whenever one is begun
_PATIENCE_S: Final = 10.0
_PAUSE_S: Final = 0.001


class Begun(Exception):
    """Somebody has begun the entry, or finished it: find it."""


class Found(NamedTuple):
    """An entry or a part, held against eviction; *maker* tells of a part whether it is made on."""

    data: Descriptor
    maker: Descriptor | None

    def close(self) -> None:
        """Let go of it."""
        self.data.close()
        if self.maker is not None:
            self.maker.close()


class _Stock(NamedTuple):
    entries: dict[str, os.stat_result]
    parts: dict[str, tuple[int, int]]  # bytes reserved, and written


class Shelf:
    """The directory *path*, in which entries and parts may take *most_bytes* together.

    It is made when it is missing. Methods raise OSError, or `Unavailable` with a reason.
    """

    def __init__(self, path: str, most_bytes: int) -> None:
        self._path = path.rstrip("/") or "/"  # or O_NOFOLLOW would mean what a link leads to
        self._most_bytes = most_bytes

    def tidy(self) -> None:
        """Remove what dead makers left, and what is too much by a limit lower than before."""
        with self._locked() as directory:
            self._make_room(directory, _take_stock(directory), 0)

    def used(self) -> int:
        """The bytes of all entries and parts."""
        with self._locked() as directory:
            stock = _take_stock(directory)
        entries = sum(found.st_size for found in stock.entries.values())
        return entries + sum(written for _, written in stock.parts.values())

    def find(self, key: str) -> Found | None:
        """Open the entry, or its part while somebody makes it."""
        _check(key)
        with self._opened() as directory:
            # In this order: a part that is finished in between is found as an entry.
            return _find_part(directory, key) or _find_entry(directory, key)

    def begin(self, key: str, most_bytes: int) -> Part | None:
        """Reserve *most_bytes* for a new entry; None if there is no room, `Begun` if it exists."""
        _check(key)
        with self._locked() as directory:
            stock = _take_stock(directory)
            if key in stock.entries or key in stock.parts:
                raise Begun(key)
            if not self._make_room(directory, stock, most_bytes):
                return None
            with ExitStack() as stack:
                maker = os.open(f"maker-{key}", _MAKING, 0o600, dir_fd=directory)
                stack.callback(os.close, maker)
                stack.callback(os.unlink, f"maker-{key}", dir_fd=directory)
                # It waits no longer than somebody's `is_made` takes.
                fcntl.flock(maker, fcntl.LOCK_EX)
                os.ftruncate(maker, most_bytes)
                data = os.open(f"part-{key}", _MAKING, GROWING, dir_fd=directory)
                stack.pop_all()
            return Part(key, data, maker, self._opened, self._locked)

    def _make_room(self, directory: int, stock: _Stock, wanted: int) -> bool:
        """Evict what was not used for longest until *wanted* bytes fit."""
        size = sum(found.st_size for found in stock.entries.values())
        reserved = sum(reserved for reserved, _ in stock.parts.values())
        unwritten = sum(reserved - written for reserved, written in stock.parts.values())
        disk = os.fstatvfs(directory)
        over = size + reserved + wanted - self._most_bytes
        short = unwritten + wanted - disk.f_bavail * disk.f_frsize
        missing = max(over, short)
        if missing > size:
            return False
        many = len(stock.entries) + len(stock.parts) + 1 - _MOST_ENTRIES
        for key, found in sorted(stock.entries.items(), key=lambda entry: entry[1].st_mtime_ns):
            if missing <= 0 and many <= 0:
                break
            if _evict(directory, key):
                missing -= found.st_size
                many -= 1
        return missing <= 0 and many <= 0

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The directory's descriptor, with the right to change what others rely on."""
        with self._opened() as directory:
            until = time.monotonic() + _PATIENCE_S
            while not try_lock(directory, fcntl.LOCK_EX):
                if time.monotonic() > until:
                    raise Unavailable("the spool is kept locked by another process")
                time.sleep(_PAUSE_S)
            yield directory

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """The directory's descriptor, opened anew: somebody may have removed the directory."""
        try:
            directory = os.open(self._path, _READING | os.O_DIRECTORY)
        except FileNotFoundError:
            os.makedirs(self._path, 0o700, exist_ok=True)
            directory = os.open(self._path, _READING | os.O_DIRECTORY)
        try:
            found = os.fstat(directory)
            if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise Unavailable(
                    "spool.dir: others own it or may write to it; name a new directory in it"
                )
            yield directory
        finally:
            os.close(directory)


def _check(key: str) -> None:
    if not _KEY.fullmatch(key):
        raise ValueError(f"not a key of the spool: {key!r}")


def _take_stock(directory: int) -> _Stock:
    """What there is; only with the lock, for what nobody can use is removed."""
    stock = _Stock({}, {})
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


def _evict(directory: int, key: str) -> bool:
    with ExitStack() as stack:
        file = _open(stack, directory, key)
        if file is not None and not try_lock(file.fd, fcntl.LOCK_EX):
            return False
        with suppress(FileNotFoundError):
            os.unlink(key, dir_fd=directory)
        return True


def _find_part(directory: int, key: str) -> Found | None:
    with ExitStack() as stack:
        data = _open(stack, directory, f"part-{key}")
        maker = _open(stack, directory, f"maker-{key}")
        if data is None or maker is None or not is_made(maker):
            return None
        if not _pin(data, GROWING, COMPLETE):
            return None
        stack.pop_all()
        return Found(data, maker)


def _find_entry(directory: int, key: str) -> Found | None:
    with ExitStack() as stack:
        data = _open(stack, directory, key)
        if data is None or not _pin(data, COMPLETE):
            return None
        now = time.time_ns()
        os.utime(data.fd, ns=(now, now))
        stack.pop_all()
        return Found(data, None)


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
        file = Descriptor(os.open(name, _READING | flags, dir_fd=directory))
    except OSError as exc:
        if exc.errno in _NOT_OURS:
            return None
        raise
    stack.callback(file.close)
    return file
