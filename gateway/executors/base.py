"""What an executor promises, whatever backend it reaches."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple, Self

from gateway.config.model import ExecutorConfig
from gateway.domain.archives import Bodies, Member
from gateway.domain.errors import Unsupported
from gateway.domain.model import SessionId
from gateway.domain.paths import WorkspacePath
from gateway.executors.collecting import Collection, collected
from gateway.executors.streams import (
    EVERYTHING,
    ArchiveStream,
    FileStream,
    Members,
    Packed,
    Selection,
    Walk,
    Wanted,
)


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
    WHOLE = "whole"  # an `ArchiveStream`; of bounds, those of a file and of depth are its own


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an executor can do; the contract suite holds every executor to all of it.

    *ranges*: a part of a file is had without what stands before it. *versions*: open files carry a
    strong validator. *raw_names*: names that are not UTF-8 are listed, and fetched.
    *double_dots*: so are names like `a..b`. Listings may leave out what has another name, and to
    open it is `Unsupported`. *isolates*: an entry that cannot be told, for its name or as a link
    that dangles, costs only itself; else the listing of its directory may be an `Outage`.
    *per_workspace*: how many calls at once one workspace bears; None is no limit. *own_backends*:
    each workspace has one, which tells nothing of the others'. *archives* that are walked a wrapper
    may make by its own `walk` and `open`. *provisions*: it makes workspaces. *watches*: it notices
    `changes`.
    """

    ranges: bool
    versions: bool
    raw_names: bool
    links: Links
    proof: Proof
    double_dots: bool = True
    isolates: bool = True
    per_workspace: int | None = None
    own_backends: bool = False
    archives: Archives = Archives.WALKED
    provisions: bool = False
    watches: bool = False


@dataclass(frozen=True, slots=True)
class Health:
    """Whether an executor can work now, and facts about it that an operator wants to see."""

    ready: bool
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What a session's workspace is made with.

    *secrets* are for the sandbox's environment, by name; they are written down nowhere.
    """

    session_id: SessionId
    internet_access: bool = False
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


class Changed(NamedTuple):
    """Paths of a workspace at which something is new, different or gone, and how many *more*."""

    paths: Sequence[WorkspacePath]
    more: int


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

    async def provision(self, sandbox: Sandbox) -> str:
        """Make the workspace of a session, and return what it is called here.

        One that was made before is as good. Raises `AlreadyExists` if something else is in its
        place, or an `Outage`.
        """
        raise Unsupported("the executor has no way to make workspaces")

    def changes(self, workspace: str) -> AsyncIterator[Changed]:
        """Yield, for ever, what has changed in a workspace, some seconds after it has.

        Raises `Unsupported` at once; iterating raises `SessionNotFound` or an `Outage`.
        """
        raise Unsupported("the executor does not notice changes")

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
        packed = await packed.selected(self, workspace)

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
