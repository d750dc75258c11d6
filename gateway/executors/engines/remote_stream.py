"""A file whose bytes come over a connection: read forward, asked for again when it must go back."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from gateway.domain.errors import GatewayError, StreamBroken
from gateway.domain.model import Entry
from gateway.executors.streams import FileStream, Inflow

_SHORT = "the file is shorter than it was said to be"


@dataclass(frozen=True, slots=True)
class Body:
    """What a backend sends of a file: *count* bytes from *first*, None if it does not say.

    *entry* is of the file as this answer knows it. *inflow* gives the rest of *chunks*, behind what
    has been read of them, where it comes in; None if it cannot be had there.
    """

    entry: Entry
    first: int
    count: int | None
    chunks: AsyncIterator[bytes]
    inflow: Callable[[bytes], Inflow | None] = lambda held: None


Fetch = Callable[[int, int | None], AbstractAsyncContextManager[Body]]
"""Asks for so many bytes from a position, None: all that follow. The backend may give more."""


class RemoteStream(FileStream):
    """A file of which *body*, an answer of *fetch*, has begun to come.

    Every later answer must be of the same version, or of the same size and time where the backend
    has no versions; else the stream is broken.
    """

    def __init__(self, source: str, body: Body, fetch: Fetch, *, seekable: bool) -> None:
        self.source = source
        self.entry = body.entry
        self.seekable = seekable
        self._fetch = fetch
        self._reader = _Reader(body)
        self._answer = AsyncExitStack()  # a later one; the first is the opener's to end

    async def aclose(self) -> None:
        """Give back the connection of a later answer."""
        await self._answer.aclose()

    async def read(self, first: int, count: int) -> bytes:
        """Return *count* bytes from position *first*.

        What is read where the stream stands is kept for `chunks` to begin with; anything else is
        asked for by itself.
        """
        if self._reader.position == first and self._reader.covers(first, count):
            data = await self._reader.peek(count)
        else:
            async with self._asked(first, count) as reader:
                await reader.skip(first)
                data = await reader.peek(count)
        if len(data) < count and self.entry.size is not None:
            raise StreamBroken(_SHORT)
        return data

    async def chunks(self, first: int, count: int | None) -> AsyncIterator[bytes]:
        """Yield *count* bytes from position *first*, in the pieces in which they arrive."""
        reader = self._reader
        if not (reader.reaches(first, skipping=not self.seekable) and reader.covers(first, count)):
            await self._answer.aclose()
            self._reader = await self._answer.enter_async_context(self._asked(first, count))
        reader = self._reader
        await reader.skip(first)
        left = count
        while left is None or left > 0:
            piece = await reader.take(left)
            if not piece:
                if left is not None:
                    raise StreamBroken(_SHORT)
                return
            left = None if left is None else left - len(piece)
            yield piece

    def inflow(self, first: int, count: int) -> Inflow | None:
        """The same where it comes in, if the answer stands there and brings nothing else."""
        reader = self._reader
        if reader.position != first or not reader.ends_at(first + count):
            return None
        return reader.hand_over()

    @asynccontextmanager
    async def _asked(self, first: int, count: int | None) -> AsyncIterator["_Reader"]:
        async with AsyncExitStack() as stack:
            try:
                body = await stack.enter_async_context(self._fetch(first, count))
            except GatewayError as exc:
                raise StreamBroken("the rest of the file cannot be had") from exc
            if _identity(body.entry) != _identity(self.entry):
                raise StreamBroken("the file changed while it was read")
            yield _Reader(body)


class _Reader:
    """Reads one answer forward; *position* is that of the next byte."""

    def __init__(self, body: Body) -> None:
        self.position = body.first
        self._held = b""
        self._coming = body.chunks
        self._inflow = body.inflow
        self._end = None if body.count is None else body.first + body.count

    def reaches(self, first: int, *, skipping: bool) -> bool:
        """Whether the byte at *first* is still to come, at once or behind what can be skipped."""
        ahead = first - self.position
        return ahead >= 0 and (skipping or ahead <= len(self._held))

    def covers(self, first: int, count: int | None) -> bool:
        """Whether the answer goes as far as that, or does not say how far it goes."""
        return self._end is None or count is None or first + count <= self._end

    def ends_at(self, position: int) -> bool:
        """Whether the answer is known to go exactly as far as that."""
        return self._end == position

    def hand_over(self) -> Inflow | None:
        """All that the answer still brings, where it comes in; then it is at its end here."""
        inflow = self._inflow(self._held)
        if inflow is not None and self._end is not None:
            self.position, self._held = self._end, b""
        return inflow

    async def peek(self, count: int) -> bytes:
        """The next *count* bytes, fewer if the answer ends; they are still to be taken."""
        pieces, length = [self._held], len(self._held)
        while length < count and (chunk := await self._next(self.position + length)):
            pieces.append(chunk)
            length += len(chunk)
        self._held = b"".join(pieces)
        return self._held[:count]

    async def skip(self, first: int) -> None:
        """Drop what stands before *first*; raise `StreamBroken` if that is not ahead."""
        if first < self.position:
            raise StreamBroken("the executor sent another part than was asked for")
        while self.position < first:
            if not await self.take(first - self.position):
                raise StreamBroken(_SHORT)

    async def take(self, most: int | None) -> bytes:
        """The next piece of at most *most* bytes; empty if the answer is at its proven end."""
        piece = self._held or await self._next(self.position)
        self._held = b""
        if most is not None and len(piece) > most:
            piece, self._held = piece[:most], piece[most:]
        self.position += len(piece)
        return piece

    async def _next(self, position: int) -> bytes:
        try:
            chunk = await self._coming.__anext__()
        except StopAsyncIteration:
            chunk = b""
        if not chunk and self._end is not None and position != self._end:
            raise StreamBroken("the executor's answer was cut short")
        return chunk


def _identity(entry: Entry) -> tuple[object, ...]:
    if entry.version is not None:
        return (entry.version,)
    return (entry.size, entry.mtime_ns)
