"""What an executor gives: open files, walks that have begun, what goes into an archive."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, Self

from gateway.domain.archives import ArchiveBounds, Bodies, Member, Packing, Skipped
from gateway.domain.model import Entry
from gateway.domain.paths import WorkspacePath

if TYPE_CHECKING:  # which gives them
    from gateway.executors.base import Executor


class Selection(Protocol):
    """Which entries a walk yields; called off the loop, or for a few entries in a turn of it."""

    def excludes(self, path: WorkspacePath, is_directory: bool) -> bool:
        """Whether the entry is neither yielded nor entered."""

    def lists(self, path: WorkspacePath, is_directory: bool) -> bool:
        """Whether an entry that is not excluded is yielded; it is entered all the same."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a file will most likely be read: *count* bytes from *first*; None: to its end.

    It only saves work at the backend: whatever an executor makes of it, the stream can give every
    part of the file. *unless* names a version that needs no bytes at all. Without *content* nobody
    gets any of them: only what there is to be known is asked for.
    """

    first: int = 0
    count: int | None = None
    unless: str | None = None
    content: bool = True

    def downloads(self, version: str | None) -> bool:
        """Whether bytes of that version go to whoever asks."""
        return self.content and (self.unless is None or self.unless != version)


EVERYTHING = Wanted()
NOTHING = Wanted(count=0)


class FileStream(ABC):
    """An open regular file. What it gives is exact, or it raises `StreamBroken`.

    *source* names the executor that answered; *fallback* is the code of the `Outage` why an
    earlier one in the chain did not. *entry* is of the open file itself. *descriptor*, if there is
    one, may be sent from by position while the stream is open, as far as `reach` says. Parts of a
    stream that is not *seekable* cost what stands before them. Of one that is *complete* the
    backend has given all.
    """

    source: str
    fallback: str | None = None
    entry: Entry
    descriptor: int | None = None
    seekable: bool = True
    complete: bool = False

    @abstractmethod
    async def read(self, first: int, count: int) -> bytes:
        """Return exactly *count* bytes from position *first*; meant for small parts.

        Where `entry.size` is unknown there are fewer if the file ends before.
        """

    async def reach(self, position: int) -> int:
        """Wait until *descriptor* has a byte at *position*, or all it will have; return its size.

        Raises `StreamBroken` if what writes the file fails.
        """
        assert self.entry.size is not None  # that of an open file is known
        return self.entry.size

    async def location(self) -> bytes | None:
        """Where the open file lies below the executor's root on this host's disk, without links.

        That was so at this moment: whoever opens it by that path may find another file. None if it
        lies elsewhere or has no name any more.
        """
        return None

    @abstractmethod
    def chunks(self, first: int, count: int | None) -> AsyncIterator[bytes]:
        """Yield exactly *count* bytes from position *first*, in pieces of a bounded size.

        None is for a file whose size is unknown: all there is, to the proof that it is all.
        """

    def inflow(self, first: int, count: int) -> "Inflow | None":
        """The same bytes for who sends them on as they are; None if only `chunks` has them.

        It has to be closed, and nothing else may be read of the stream meanwhile.
        """
        return None


class Inflow(ABC):
    """Bytes that come in at a socket, moved by the kernel without being read here."""

    @abstractmethod
    def begun(self) -> bytes:
        """Those that had been read already; to be asked for first, and once."""

    @abstractmethod
    async def take(self, pipe: int, most: int) -> int:
        """Move the next bytes into *pipe*, an empty one's descriptor; return how many they are.

        At least one, and at most so many; raise `StreamBroken` if there are no more.
        """

    @abstractmethod
    def close(self) -> None:
        """Leave the socket alone."""


class Walk(ABC):
    """A walk that has begun; iterate it once, for batches of entries that are never empty.

    *source*, *fallback* and *complete* are as in `FileStream`.
    """

    source: str
    fallback: str | None = None
    complete: bool = False

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[Sequence[Entry]]:
        """Yield batches; raise an `Outage` or `StreamBroken` if the rest cannot be had."""


class Members(ABC):
    """All that goes into an archive: known before its first byte, while bodies are read later.

    *source* and *fallback* are as in `FileStream`. *members* are in the order of their paths, and
    no two have the same; *skipped* are links that leave, dangle or lead to a directory, special
    files, and what may not be read. *bodies*, if there are, spare a
    reader in another process the way through `open`.
    """

    source: str
    fallback: str | None = None
    complete: bool = True  # bodies are no part of the call that found the members
    members: Sequence[Member]
    skipped: Skipped
    bodies: Bodies | None = None

    @abstractmethod
    def open(self, member: Member) -> AbstractAsyncContextManager[FileStream]:
        """Open the body of a member that is a file; it may have changed since.

        Entering raises what `Executor.open` raises.
        """


class ArchiveStream(FileStream):
    """An archive, made here or by a backend; nothing is done for it before `prepare`.

    *entry* has its length as its size, None as long as that is unknown, and the validator as its
    version. Of *entries*, *uncompressed* (bytes of all members) and *skipped*, what is not told is
    None. *spool*, known once it is prepared, says where it came from: `hit` (it was there), `miss`
    (made for this request), `follow` (being made for another) or `bypass` (it did not fit).
    """

    entries: int | None = None
    uncompressed: int | None = None
    skipped: int | None = None
    spool: str | None = None

    @abstractmethod
    async def prepare(self, *, whole: bool) -> None:
        """Have it made, or found; with *whole*, wait until its length is known.

        Only then can it be read. Raises `GatewayError`, an `Outage` among them.
        """


Search = Callable[["Executor", str], Awaitable[Selection]]
"""Finds what is selected of a workspace of an executor."""


@dataclass(frozen=True, slots=True)
class Packed:
    """What is asked of an executor for an archive.

    *selection* is what `packing.exclude` says; with `packing.gitignore` *search* finds another that
    heeds the workspace's own files, too, by calls of the executor that will walk it. *wanted* is
    for backends that make archives: with no bytes of it, it may be that none will be read.
    """

    packing: Packing
    bounds: ArchiveBounds
    selection: Selection | None = None
    wanted: Wanted = EVERYTHING
    search: Search | None = None

    async def selected(self, executor: "Executor", workspace: str) -> Self:
        """The same with all of its selection; raise what *search* and the calls it makes do.

        It is for who has no call in that workspace: that may bear one at a time.
        """
        if self.search is None:
            return self
        found = await self.search(executor, workspace)
        return replace(self, selection=found, search=None)
