"""Archives on the disk, complete or still growing, for whoever asks for one that was made before.

Several processes share the directory: what one makes, all find and follow. See `shelf` for how.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final, Self, TypeVar
from weakref import WeakValueDictionary

import structlog
from aiofiles.threadpool import wrap

from gateway.archive.part import COMPLETE, GROWING, Part, is_made, look
from gateway.archive.shelf import Begun, Shelf
from gateway.archive.stock import Found
from gateway.domain.errors import StreamBroken, Unavailable
from gateway.system.descriptor import Descriptor
from gateway.system.pool import Pool

__all__ = ["Begun", "Growing", "Spool", "Spooled"]

log = structlog.get_logger()

T = TypeVar("T")

# Apart, so that nobody who looks for an archive waits for the disk to take another one.
_LOOKERS: Final = 4
_WRITERS: Final = 8

# A look at a growing file takes a few microseconds; how often, while nothing comes, unless this
# process makes it and rings.
_SHORTEST_PAUSE_S: Final = 0.002
_LONGEST_PAUSE_S: Final = 0.02

_LEAVING_S: Final = 5.0


class Spool:
    """Entries by key, which is 32 hex digits and perhaps suffixes like `.tar.gz`.

    Its methods raise `Unavailable` when the directory cannot be used.
    """

    def __init__(self, shelf: Shelf, lookers: Pool, writers: Pool) -> None:
        self._shelf = shelf
        self._lookers = lookers
        self._writers = writers
        # Of what this process makes: whoever waits for one to be set, looks again.
        self._bells: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()
        self._leaving: set[asyncio.Future[Any]] = set()  # what is removed, or about to be

    @classmethod
    @asynccontextmanager
    async def running(cls, directory: str, most_bytes: int) -> AsyncIterator[Self]:
        """Keep entries of *most_bytes* together in *directory*, which is made if it is missing.

        Leaving waits a while until what is unfinished is removed. Raises `Unavailable` if it
        cannot be used, or if others could write to it.
        """
        shelf = Shelf(directory, most_bytes)
        lookers, writers = Pool("spool-look", _LOOKERS), Pool("spool-write", _WRITERS)
        spool = cls(shelf, lookers, writers)
        try:
            await _done(lookers.submit(shelf.tidy))
            yield spool
        finally:
            if spool._leaving:  # a disk that hangs does not hold up the exit
                await asyncio.wait(spool._leaving, timeout=_LEAVING_S)
            lookers.shutdown(wait=False, cancel_futures=True)
            writers.shutdown(wait=False)  # what is to be removed then still is, if late

    async def find(self, key: str) -> "Spooled | None":
        """The entry, if it is there or is being made, by this process or another."""
        found = await _done(self._lookers.submit(self._shelf.find, key), Found.close)
        return None if found is None else Spooled(found, self._bells.get(key) or asyncio.Event())

    async def begin(self, key: str, most_bytes: int) -> "Growing | None":
        """Reserve *most_bytes* for an entry; None if they do not fit, whatever is evicted.

        Raises `Begun` if somebody was faster. To find it may fail all the same, if it is gone
        again; then begin.
        """
        beginning = self._lookers.submit(self._shelf.begin, key, most_bytes)
        try:
            part = await _done(beginning, Part.close)
        except asyncio.CancelledError:
            _kept(self._leaving, asyncio.wrap_future(beginning))  # it ends when that is undone
            raise
        if part is None:
            return None
        bell = self._bells[key] = asyncio.Event()
        return Growing(key, part, most_bytes, self._writers, bell, self._leaving)

    async def check(self) -> None:
        """Return if the directory is there, and safe; what is in it is not looked at."""
        await _done(self._lookers.submit(self._shelf.check))

    async def used(self) -> int:
        """The bytes in the spool."""
        return await _done(self._lookers.submit(self._shelf.used))


class Spooled:
    """An entry that cannot be evicted inside the `async with`.

    *file* is for reading by position. Of a growing entry, *size* bytes are there so far; they
    vanish if its maker fails, and a read then comes short.
    """

    def __init__(self, found: Found, bell: asyncio.Event) -> None:
        self.file = found.data
        self.size = 0
        self.is_complete = False
        self._found = found
        self._bell = bell
        self._failed = False
        self._look()

    @property
    def descriptor(self) -> int:
        """The descriptor of *file*."""
        return self.file.fd

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._found.close()

    async def beyond(self, position: int) -> int:
        """Wait for a byte at *position*, or for the end; return the size.

        Raises `StreamBroken` if the maker fails or dies; waits as long as it lives.
        """
        pause_s = _SHORTEST_PAUSE_S
        self._look()
        while not self._failed and not self.is_complete and self.size <= position:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._bell.wait()
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            self._look()
        if self._failed:
            raise StreamBroken("the archive could not be made")
        return self.size

    async def completed(self) -> int:
        """Wait for the end as `beyond` does; return the size."""
        while not self.is_complete:
            await self.beyond(self.size)
        return self.size

    def _look(self) -> None:
        maker = self._found.maker
        lives = maker is None or is_made(maker)  # first: it may have finished before it went
        state, size = look(self.file)
        self.is_complete = state == COMPLETE
        self._failed = not self.is_complete and (state != GROWING or not lives)
        if not self._failed:
            self.size = size


class Growing:
    """The entry *key*, which this process makes.

    To leave the `async with` without `finish` discards it. One call at a time. They raise
    `Unavailable` if the disk is full or fails.
    """

    def __init__(
        self,
        key: str,
        part: Part,
        most_bytes: int,
        pool: Pool,
        bell: asyncio.Event,
        leaving: set[asyncio.Future[Any]],
    ) -> None:
        self.key = key
        self._part = part
        self._file = wrap(part, executor=pool)
        self._left = most_bytes
        self._size = 0
        self._pool = pool
        self._bell = bell
        self._leaving = leaving

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            closing = asyncio.wrap_future(self._pool.submit(self._close))
        except RuntimeError:  # there is no thread for it
            self._close()
        else:
            _kept(self._leaving, closing)
            # Shielded: taken out of the pool's queue, it would keep the entry reserved for ever.
            await asyncio.shield(closing)
        finally:
            self._ring()

    def _close(self) -> None:
        try:
            self._part.close()
        except (OSError, Unavailable) as left:
            # Not raised: it matters less than why the entry is left, and who looks for room next
            # removes the file.
            log.warning("part_not_removed", reason=str(left))

    async def append(self, data: bytes | memoryview) -> None:
        """Write *data* at the end; raise ValueError if more was not reserved."""
        self._take(memoryview(data).nbytes)
        with _usable():
            await self._file.write(data)
        self._ring()

    async def append_from(self, descriptor: int, count: int) -> None:
        """Copy the first *count* bytes of another file; ValueError as in `append`."""
        self._take(count)
        source = Descriptor(os.dup(descriptor))  # the caller may close its own when it is cancelled
        try:
            await _done(self._pool.submit(self._part.append_from, source, count))
        finally:
            source.close()
        self._ring()

    async def withdraw(self) -> bool:
        """Let nobody begin to follow it; return False if somebody does, or it is complete.

        It may be called beside the others. Who comes later waits until the entry is left.
        """
        return await _done(self._pool.submit(self._part.withdraw))

    async def finish(self) -> None:
        """Make it a complete entry that survives a restart, and a loss of power.

        Followers see its end at once. Raises ValueError if not all was written.
        """
        await _done(self._pool.submit(self._part.finish, self._size))
        self._ring()

    def _ring(self) -> None:
        self._bell.set()
        self._bell.clear()

    def _take(self, count: int) -> None:
        if count > self._left:
            raise ValueError(f"only {self._left} bytes are reserved, not {count}")
        self._left -= count
        self._size += count


def _kept(futures: "set[asyncio.Future[Any]]", one: "asyncio.Future[Any]") -> None:
    """Have it in the set as long as it is under way; how it ends is nobody's concern."""

    def ended(one: "asyncio.Future[Any]") -> None:
        futures.discard(one)
        if not one.cancelled():
            one.exception()

    futures.add(one)
    one.add_done_callback(ended)


async def _done(call: "Future[T]", undo: "Callable[..., object] | None" = None) -> T:
    """What comes of the call; if nobody waits for that any more, it is undone."""
    try:
        with _usable():
            return await asyncio.wrap_future(call)
    except asyncio.CancelledError:
        if undo is not None:
            call.add_done_callback(lambda done: _undone(done, undo))
        raise


@contextmanager
def _usable() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise Unavailable(f"the spool cannot be used: {exc.strerror}") from exc


def _undone(done: "Future[T]", undo: "Callable[..., object]") -> None:
    if not done.cancelled() and done.exception() is None and done.result() is not None:
        undo(done.result())
