"""The tar that the guest script makes of a workspace, in one life of a machine."""

from collections.abc import AsyncIterator, Sequence
from typing import Final

from gateway.domain.errors import NotADirectory, ProtocolFault, Unsupported
from gateway.domain.paths import WorkspacePath
from gateway.executors.engines.reply import Reply
from gateway.executors.firecracker.envelope import Envelope
from gateway.executors.firecracker.names import encoded
from gateway.executors.firecracker.verdicts import NO_DIRECTORY, verdict
from gateway.executors.streams import (
    Selection,
)

_LONGEST_WORD: Final = 16
_MOST_NOTED: Final = 64 * 1024  # bytes
_TOO_LARGE: Final = "there is more than the executor can pack"


async def tar_in(reply: Reply, most: int) -> AsyncIterator[bytes]:
    """The bytes of the tar in *reply*, to the proof that these are all.

    Raises what `Executor.walk` raises; `Unsupported` for more than *most* bytes.
    """
    if reply.content_type != "application/json":
        raise ProtocolFault("the executor's answer is not JSON")
    envelope = Envelope("stdout", most, Unsupported(_TOO_LARGE))
    envelope.expect(reply.length)
    start: bytes | None = b""
    async for text in reply.chunks():
        data = envelope.feed(text)
        if start is not None:
            start += data
            word, is_whole, data = start.partition(b"\n")
            if len(word) > _LONGEST_WORD:
                raise ProtocolFault("the executor's answer has an unexpected form")
            if not is_whole:
                continue
            _judge(word)
            start = None
        if data:
            yield data
    envelope.end()


def _judge(word: bytes) -> None:
    if word == b"large":
        raise Unsupported(_TOO_LARGE)
    if word != b"tar":
        raise verdict(word.decode("ascii", "replace"), NotADirectory(NO_DIRECTORY))


class Noting:
    """A selection, and what it has excluded below *base*, as far as that can be told in a call."""

    def __init__(self, inner: Selection, base: WorkspacePath) -> None:
        self._inner = inner
        self._base = base
        self._noted: dict[str, None] = {}
        self._left = _MOST_NOTED

    @property
    def noted(self) -> Sequence[str]:
        """The paths from *base*, `encoded`."""
        return [*self._noted]

    def excludes(self, path: WorkspacePath, is_directory: bool) -> bool:
        """Whether the entry is neither yielded nor entered; if so, that is noted."""
        excluded = self._inner.excludes(path, is_directory)
        if excluded:
            name = encoded(WorkspacePath(path.parts[len(self._base.parts) :]))
            if name not in self._noted and self._left >= len(name):
                self._left -= len(name)
                self._noted[name] = None
        return excluded

    def lists(self, path: WorkspacePath, is_directory: bool) -> bool:
        """As the selection has it."""
        return self._inner.lists(path, is_directory)
