"""What an executor promises, whatever backend it reaches."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self

from pydantic import BaseModel

from gateway.domain.model import Entry
from gateway.domain.paths import WorkspacePath


class Selection(Protocol):
    """Which entries a walk yields; called off the loop, for every entry."""

    def excludes(self, path: WorkspacePath, is_directory: bool) -> bool:
        """Whether the entry is neither yielded nor entered."""

    def lists(self, path: WorkspacePath, is_directory: bool) -> bool:
        """Whether an entry that is not excluded is yielded; it is entered all the same."""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether an executor can work now, and facts about it that an operator wants to see."""

    ready: bool
    details: Mapping[str, str] = field(default_factory=dict)


class FileStream(ABC):
    """An open regular file. What it gives is exact, or it raises `StreamBroken`.

    *entry* was read from the open file itself. *descriptor*, if there is one, may be sent from
    by position while the stream is open. *source* names the executor that answered.
    """

    source: str
    entry: Entry
    descriptor: int | None = None

    @abstractmethod
    async def read(self, first: int, count: int) -> bytes:
        """Return exactly *count* bytes from position *first*."""

    @abstractmethod
    def chunks(self, first: int, count: int) -> AsyncIterator[bytes]:
        """Yield exactly *count* bytes from position *first*, in pieces of a bounded size."""


class Walk(ABC):
    """A walk that has begun; iterate it once, for batches of entries that are never empty."""

    source: str

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[Sequence[Entry]]:
        """Yield batches; raise an `Outage` or `StreamBroken` if the rest cannot be had."""


class Executor(ABC):
    """Gives access to the workspaces of one backend.

    A plug-in names its frozen config model in `Config` and is made by `running`, which gives
    back everything it holds when it is left. What is raised while something is being entered is a
    verdict of `domain.errors` and can still become another answer.
    """

    Config: ClassVar[type[BaseModel]]

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    @abstractmethod
    def running(cls, name: str, config: Any) -> AbstractAsyncContextManager[Self]:
        """Start the executor that the config calls *name*; *config* is an instance of `Config`."""

    @abstractmethod
    async def probe(self) -> Health:
        """Say whether the backend can work; never raises."""

    @abstractmethod
    def open(self, workspace: str, path: WorkspacePath) -> AbstractAsyncContextManager[FileStream]:
        """Open the regular file at *path*.

        Entering raises `SessionNotFound`, `PathNotFound`, `NotAFile`, `NotADirectory` (a file where
        the path goes on), `NotReadable`, `PathRefused` (a link that leaves) or an `Outage`.
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
