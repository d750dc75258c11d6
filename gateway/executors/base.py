"""What an executor promises, whatever backend it reaches."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Protocol, Self

from gateway.config.model import ExecutorConfig
from gateway.domain.archives import ArchiveBounds, Bodies, Member, Packing
from gateway.domain.errors import Unsupported
from gateway.domain.model import Entry
from gateway.domain.paths import WorkspacePath
from gateway.executors.collecting import Collection, collected


class Links(StrEnum):
    """What an executor's listings know of symbolic links."""

    RESOLVED = "resolved"  # marked, with the kind and size of what they lead to
    HIDDEN = "hidden"  # not told from what they lead to


class Proof(StrEnum):
    """What a body must end with to be complete; without it the stream is broken."""

    LENGTH = "length"  # the length that was told before it
    BOUNDARY = "boundary"  # an end mark of the framing around it


class Archives(StrEnum):
    """What an executor's `archive` gives, and what its backend has to do for that."""

    REFUSED = "refused"  # `Unsupported`
    WALKED = "walked"  # members by `walk`, bodies by `open`: as `Executor` does it
    MEMBERS = "members"  # members in one call; their bodies are no calls of the backend
    WHOLE = "whole"  # an `ArchiveStream`


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an executor can do; the contract suite holds every executor to all of it.

    *ranges*: a part of a file is had without what stands before it. *versions*: open files carry a
    strong validator. *raw_names*: names that are not UTF-8 are listed, and fetched.
    *double_dots*: so are names like `a..b`. Listings may leave out what has another name, and to
    open it is `Unsupported`. *isolates*: an entry that cannot be told, for its name or as a link
    that dangles, costs only itself; else the listing of its directory may be an `Outage`.
    *per_workspace*: how many calls at once one workspace bears; None is no limit. *archives* that
    are walked a wrapper may make by its own `walk` and `open`.
    """

    ranges: bool
    versions: bool
    raw_names: bool
    links: Links
    proof: Proof
    double_dots: bool = True
    isolates: bool = True
    per_workspace: int | None = None
    archives: Archives = Archives.WALKED


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
    part of the file. *unless* names a version that needs no bytes at all.
    """

    first: int = 0
    count: int | None = None
    unless: str | None = None


EVERYTHING = Wanted()


@dataclass(frozen=True, slots=True)
class Health:
    """Whether an executor can work now, and facts about it that an operator wants to see."""

    ready: bool
    details: Mapping[str, str] = field(default_factory=dict)


class FileStream(ABC):
    """An open regular file. What it gives is exact, or it raises `StreamBroken`.

    *source* names the executor that answered; *fallback* is the code of the `Outage` why an
    earlier one in the chain did not. *entry* is of the open file itself. *descriptor*, if there is
    one, may be sent from by position while the stream is open. Parts of a stream that is not
    *seekable* cost what stands before them. Of one that is *complete* the backend has given all.
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


class Walk(ABC):
    """A walk that has begun; iterate it once, for batches of entries that are never empty.

    *source* and *fallback* are as in `FileStream`.
    """

    source: str
    fallback: str | None = None

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[Sequence[Entry]]:
        """Yield batches; raise an `Outage` or `StreamBroken` if the rest cannot be had."""


class Members(ABC):
    """All that goes into an archive: known before its first byte, while bodies are read later.

    *source* and *fallback* are as in `FileStream`. *members* are in the order of their paths, and
    no two have the same; of what was *skipped* (links that leave, dangle or lead to a directory;
    special files; what may not be read) there is only the number. *bodies*, if there are, spare a
    reader in another process the way through `open`.
    """

    source: str
    fallback: str | None = None
    members: Sequence[Member]
    skipped: int
    bodies: Bodies | None = None

    @abstractmethod
    def open(self, member: Member) -> AbstractAsyncContextManager[FileStream]:
        """Open the body of a member that is a file; it may have changed since.

        Entering raises what `Executor.open` raises.
        """


class Collected(Members):
    """What was found in a workspace of *executor*, which opens each file when its turn comes."""

    def __init__(
        self,
        executor: "Executor",
        workspace: str,
        collection: Collection,
        bodies: Bodies | None = None,
    ) -> None:
        self.source = executor.name
        self.members = collection.members
        self.skipped = collection.skipped
        self.bodies = bodies
        self._executor = executor
        self._workspace = workspace

    def open(self, member: Member) -> AbstractAsyncContextManager[FileStream]:
        """Open the body of *member*."""
        return self._executor.open(self._workspace, WorkspacePath(member.parts))


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


@dataclass(frozen=True, slots=True)
class Packed:
    """What is asked of an executor for an archive.

    *selection* is what `packing.exclude` says; *wanted* is for backends that make archives.
    """

    packing: Packing
    bounds: ArchiveBounds
    selection: Selection | None = None
    wanted: Wanted = EVERYTHING


class Executor(ABC):
    """Gives access to workspaces.

    What is raised while something is being entered is a verdict of `domain.errors` and can still
    become another answer: entering ends only when the backend has committed itself, with a status,
    a type and the first bytes.
    """

    capabilities: Capabilities

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    async def probe(self) -> Health:
        """Say whether the backend can work; never raises."""

    @abstractmethod
    def open(
        self, workspace: str, path: WorkspacePath, wanted: Wanted = EVERYTHING
    ) -> AbstractAsyncContextManager[FileStream]:
        """Open the regular file at *path*.

        Entering raises `SessionNotFound`, `PathNotFound`, `NotAFile`, `NotADirectory` (a file where
        the path goes on), `NotReadable`, `PathRefused` (a link that leaves), `TooLarge` or an
        `Outage`.
        """

    @abstractmethod
    def walk(
        self,
        workspace: str,
        path: WorkspacePath,
        *,
        depth: int,
        after: WorkspacePath | None = None,
        selection: Selection | None = None,
    ) -> AbstractAsyncContextManager[Walk]:
        """Begin to list what lies below the directory *path*, in the order of `WorkspacePath`.

        Goes *depth* levels down (1: the direct children), starts strictly behind *after*, and
        never enters a linked directory. An entry that cannot be read is yielded with a `problem`;
        it is not the end of the listing. Entering raises what `open` raises, with `NotADirectory`
        for a file.
        """

    def archive(
        self, workspace: str, packed: Packed
    ) -> AbstractAsyncContextManager[Members | ArchiveStream]:
        """Begin an archive: with its members, or with the archive itself from a backend that makes
        it next to the files.

        Entering raises what `walk` raises for a path, `TooLarge` for what is out of bounds, with
        the first offender's name, or an `Outage`. Members are walked for, and opened one by one.
        """
        return self._archived(workspace, packed)

    @asynccontextmanager
    async def _archived(self, workspace: str, packed: Packed) -> AsyncIterator[Members]:
        if self.capabilities.archives is Archives.REFUSED:
            raise Unsupported("the executor has no way to make archives")

        def walk(path: WorkspacePath) -> AbstractAsyncContextManager[Walk]:
            depth, selection = packed.bounds.depth, packed.selection
            return self.walk(workspace, path, depth=depth, selection=selection)

        collection = await collected(packed.packing.paths, packed.bounds, walk)
        yield Collected(self, workspace, collection)


class Plugin(Executor):
    """An executor that a config can name: it reaches one backend.

    *Config* is its frozen config model.
    """

    Config: ClassVar[type[ExecutorConfig]]

    @classmethod
    @abstractmethod
    def running(cls, name: str, config: Any) -> AbstractAsyncContextManager[Self]:
        """Start the executor that the config calls *name*; *config* is an instance of `Config`.

        Leaving gives back everything it holds.
        """
