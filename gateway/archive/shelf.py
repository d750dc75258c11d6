"""The spool's directory, which processes share: what is complete, who makes what, what must go.

    <key>         a complete entry
    part-<key>    one that is being made; it gets its own name when it is complete
    maker-<key>   its maker holds a lock on this while it lives, and its length is what is reserved

Whoever reads an entry or a part holds a shared lock on it, and only what nobody holds is evicted:
a file that is open takes up its space without a name, too. The permissions of the data say how
things stand, so that one who has it open sees that with the size, whatever happens to the names.

All of this may wait for the disk, or for another process: call it in a pool.
"""

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from gateway.archive.part import GROWING, Part, try_lock
from gateway.archive.stock import (
    KEY,
    READING,
    Found,
    Stock,
    evict,
    find_entry,
    find_part,
    take_stock,
)
from gateway.domain.errors import Unavailable

_MAKING: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_ENTRIES: Final = 10_000  # all of them are looked at whenever one is begun
_PATIENCE_S: Final = 10.0
_PAUSE_S: Final = 0.001


class Begun(Exception):
    """Somebody has begun the entry, or finished it: find it."""


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
            self._make_room(directory, take_stock(directory), 0)

    def check(self) -> None:
        """Return if the directory can be opened, and nobody else may write to it."""
        with self._opened():
            pass

    def used(self) -> int:
        """The bytes of all entries and parts."""
        with self._locked() as directory:
            stock = take_stock(directory)
        entries = sum(found.st_size for found in stock.entries.values())
        return entries + sum(written for _, written in stock.parts.values())

    def find(self, key: str) -> Found | None:
        """Open the entry, or its part while somebody makes it."""
        _check(key)
        with self._opened() as directory:
            # In this order: a part that is finished in between is found as an entry.
            return find_part(directory, key) or find_entry(directory, key)

    def begin(self, key: str, most_bytes: int) -> Part | None:
        """Reserve *most_bytes* for a new entry; None if there is no room, `Begun` if it exists."""
        _check(key)
        with self._locked() as directory:
            stock = take_stock(directory)
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

    def _make_room(self, directory: int, stock: Stock, wanted: int) -> bool:
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
            if evict(directory, key):
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
            directory = os.open(self._path, READING | os.O_DIRECTORY)
        except FileNotFoundError:
            os.makedirs(self._path, 0o700, exist_ok=True)
            directory = os.open(self._path, READING | os.O_DIRECTORY)
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
    if not KEY.fullmatch(key):
        raise ValueError(f"not a key of the spool: {key!r}")
