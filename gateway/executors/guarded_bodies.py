"""Bodies under guard: every wait for the backend ends, every byte is counted."""

from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from math import inf
from time import monotonic
from typing import Any, Self, TypeVar

import structlog

from gateway.domain.archives import Member
from gateway.domain.errors import GatewayError, ProtocolFault, StreamBroken
from gateway.domain.model import Entry
from gateway.executors.streams import ArchiveStream, FileStream, Inflow, Members, Walk
from gateway.executors.within import within

log = structlog.get_logger()

T = TypeVar("T")

# What the HTTP layer reads of a file before it answers.
_SMALL = 256 * 1024
_HEAD = 4096
_FEW = 256  # entries

_LONG = "the executor sends more than it may"
_SHORT = "the executor sent less than it promised"


class GuardedStream(FileStream):
    """A stream whose every piece comes within *idle_s*, and before *ends_at* (`time.monotonic`).

    Without a known size it may have *most_bytes*.
    """

    def __init__(self, inner: FileStream, idle_s: float, ends_at: float, most_bytes: int) -> None:
        self.source = inner.source
        self.fallback = inner.fallback
        self.entry = inner.entry
        self.seekable = inner.seekable
        self.complete = inner.complete
        self._inner = inner
        self._patience = _Patience(inner.source, idle_s, ends_at)
        self._most_bytes = most_bytes
        self._head = b""

    async def begin(self) -> None:
        """Have the first bytes come, of a small file all; raises whatever the inner stream does."""
        size = self.entry.size
        count = _HEAD if size is None else size if size <= _SMALL else _HEAD
        self._head = self._counted(await self._inner.read(0, count), count)

    async def read(self, first: int, count: int) -> bytes:
        """Return exactly *count* bytes from position *first*."""
        if first + count <= len(self._head):
            return self._head[first : first + count]
        return self._counted(await self._patience.wait(self._inner.read(first, count)), count)

    async def chunks(self, first: int, count: int | None) -> AsyncIterator[bytes]:
        """Yield exactly *count* bytes from position *first*."""
        if count is not None and first + count <= len(self._head):
            if count:
                yield self._head[first : first + count]
            return
        allowed = self._most_bytes - first if count is None else count
        coming = self._inner.chunks(first, count)
        while chunk := await self._patience.wait(_next(coming, b"")):
            allowed -= len(chunk)
            if allowed < 0:
                raise StreamBroken(_LONG)
            yield chunk
        if count is not None and allowed:
            raise StreamBroken(_SHORT)

    def inflow(self, first: int, count: int) -> Inflow | None:
        """The same bytes where they come in, unless they have been here before."""
        if first + count <= len(self._head):
            return None
        coming = self._inner.inflow(first, count)
        return None if coming is None else _GuardedInflow(coming, count, self._patience)

    def _counted(self, data: bytes, count: int) -> bytes:
        if len(data) > count:
            raise StreamBroken(_LONG)
        if len(data) < count and self.entry.size is not None:
            raise StreamBroken(_SHORT)
        return data


class GuardedWalk(Walk, AsyncIterator[Sequence[Entry]]):
    """A walk whose every batch comes within *idle_s*, and before *ends_at* (`time.monotonic`)."""

    # Not a generator: the loop keeps a list of those, which costs more than a short listing.

    def __init__(self, inner: Walk, idle_s: float, ends_at: float) -> None:
        self.source = inner.source
        self.fallback = inner.fallback
        self._batches = aiter(inner)
        self._begun: deque[Sequence[Entry]] = deque()
        self._is_over = False
        self._patience = _Patience(inner.source, idle_s, ends_at)

    async def begin(self, soon_s: float) -> None:
        """Have the first batch come, and of a short listing all that comes within *soon_s*.

        Raises whatever the inner walk does.
        """
        until, missing = monotonic() + soon_s, _FEW
        while batch := await _next(self._batches, ()):
            self._begun.append(batch)
            missing -= len(batch)
            if missing <= 0 or monotonic() > until:
                return
        self._is_over = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[Entry]:
        if self._begun:
            return self._begun.popleft()
        if not self._is_over:
            batch = await self._patience.wait(_next(self._batches, ()))
            if batch:
                return batch
            self._is_over = True
        raise StopAsyncIteration


Opening = AbstractAsyncContextManager[FileStream]


class GuardedMembers(Members):
    """Members whose bodies are opened as *guard* does it."""

    def __init__(self, inner: Members, guard: Callable[[Opening], Opening]) -> None:
        self.source = inner.source
        self.fallback = inner.fallback
        self.members = inner.members
        self.skipped = inner.skipped
        self.bodies = inner.bodies
        self._inner = inner
        self._guard = guard

    def open(self, member: Member) -> Opening:
        """Open the body of *member*."""
        return self._guard(self._inner.open(member))


class GuardedArchive(ArchiveStream):
    """An archive that is prepared before *ends_at* (`time.monotonic`), then as `GuardedStream`.

    It may have *most_bytes*; that it has more raises `ProtocolFault` where its length is told.
    """

    def __init__(
        self, inner: ArchiveStream, idle_s: float, ends_at: float, most_bytes: int
    ) -> None:
        self.source = inner.source
        self.fallback = inner.fallback
        self._inner = inner
        self._most_bytes = most_bytes
        self._patience = _Patience(inner.source, inf, ends_at)
        self._stream = GuardedStream(inner, idle_s, ends_at, most_bytes)
        self._take_over()

    async def prepare(self, *, whole: bool) -> None:
        """Have it made; how long that takes, says only how large the workspace is."""
        try:
            await self._patience.wait(self._inner.prepare(whole=whole))
        except StreamBroken as exc:  # nothing has been answered yet
            raise ProtocolFault(str(exc)) from exc
        self._take_over()

    async def read(self, first: int, count: int) -> bytes:
        """Return exactly *count* bytes from position *first*."""
        return await self._stream.read(first, count)

    def chunks(self, first: int, count: int | None) -> AsyncIterator[bytes]:
        """Yield exactly *count* bytes from position *first*."""
        return self._stream.chunks(first, count)

    def _take_over(self) -> None:
        inner = self._inner
        if (inner.entry.size or 0) > self._most_bytes:
            raise ProtocolFault(_LONG)
        self.entry = self._stream.entry = inner.entry
        self.seekable = inner.seekable
        self.complete = inner.complete
        self.entries = inner.entries
        self.uncompressed = inner.uncompressed
        self.skipped = inner.skipped


class _GuardedInflow(Inflow):
    def __init__(self, inner: Inflow, count: int, patience: "_Patience") -> None:
        self._inner = inner
        self._count = count
        self._patience = patience

    def begun(self) -> bytes:
        begun = self._inner.begun()
        if len(begun) > self._count:
            raise StreamBroken(_LONG)
        return begun

    async def take(self, pipe: int, most: int) -> int:
        return await self._patience.wait(self._inner.take(pipe, most))

    def close(self) -> None:
        self._inner.close()


class _Patience:
    def __init__(self, source: str, idle_s: float, ends_at: float) -> None:
        self._source = source
        self._idle_s = idle_s
        self._ends_at = ends_at

    async def wait(self, coming: Coroutine[Any, Any, T]) -> T:
        """What comes; raise `StreamBroken` if it comes too late, or as anything unexpected."""
        left_s = self._ends_at - monotonic()
        if left_s <= 0:  # `within` would still take what is there without waiting
            coming.close()
            raise StreamBroken("the executor's time is up")
        try:
            return await within(min(self._idle_s, left_s), coming)
        except (StreamBroken, GatewayError):
            raise
        except TimeoutError as exc:
            raise StreamBroken("the executor fell silent") from exc
        except Exception as exc:
            log.exception("executor_fault", executor=self._source)
            raise StreamBroken("the executor failed in an unexpected way") from exc


async def _next(coming: AsyncIterator[T], end: T) -> T:
    # Not `anext` with a default: with an iterator that is no generator CPython 3.11 fails.
    try:
        return await coming.__anext__()
    except StopAsyncIteration:
        return end
