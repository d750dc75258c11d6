"""Bodies under guard: every wait for the backend ends, every byte is counted."""

from collections.abc import AsyncIterator, Coroutine, Sequence
from time import monotonic
from typing import Any, TypeVar

import structlog

from gateway.domain.errors import GatewayError, StreamBroken
from gateway.domain.model import Entry
from gateway.executors.base import FileStream, Walk
from gateway.executors.within import within

log = structlog.get_logger()

T = TypeVar("T")


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

    async def read(self, first: int, count: int) -> bytes:
        """Return exactly *count* bytes from position *first*."""
        return await self._patience.wait(self._inner.read(first, count))

    async def chunks(self, first: int, count: int | None) -> AsyncIterator[bytes]:
        """Yield exactly *count* bytes from position *first*."""
        allowed = self._most_bytes - first if count is None else count
        coming = self._inner.chunks(first, count)
        while chunk := await self._patience.wait(_next(coming, b"")):
            allowed -= len(chunk)
            if allowed < 0:
                raise StreamBroken("the executor sends more than it may")
            yield chunk
        if count is not None and allowed:
            raise StreamBroken("the executor sent less than it promised")


class GuardedWalk(Walk):
    """A walk whose every batch comes within *idle_s*, and before *ends_at* (`time.monotonic`)."""

    def __init__(self, inner: Walk, idle_s: float, ends_at: float) -> None:
        self.source = inner.source
        self.fallback = inner.fallback
        self._inner = inner
        self._patience = _Patience(inner.source, idle_s, ends_at)

    async def __aiter__(self) -> AsyncIterator[Sequence[Entry]]:
        batches = aiter(self._inner)
        while batch := await self._patience.wait(_next(batches, ())):
            yield batch


class _Patience:
    def __init__(self, source: str, idle_s: float, ends_at: float) -> None:
        self._source = source
        self._idle_s = idle_s
        self._ends_at = ends_at

    async def wait(self, coming: Coroutine[Any, Any, T]) -> T:
        """What comes; raise `StreamBroken` if it comes too late, or as anything unexpected."""
        try:
            return await within(min(self._idle_s, self._ends_at - monotonic()), coming)
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
