"""The chain, whose first executor answers, and whose first executor never does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.domain.errors import WorkspaceGone
from gateway.executors.base import Executor
from gateway.executors.fallback import Fallback
from tests.rigs import gateway, local, memory, wrapping
from tests.unit.executors.scripted import Scripted

DEADLINE_S = 30.0


def empty(name: str) -> Executor:
    """An executor that has no workspace at all."""
    return Scripted(name, *[WorkspaceGone("not here")] * 1000)


@asynccontextmanager
async def first(inner: Executor) -> AsyncIterator[Executor]:
    yield Fallback([inner, empty("empty")], DEADLINE_S)


@asynccontextmanager
async def second(inner: Executor) -> AsyncIterator[Executor]:
    other = empty(inner.name)
    other.capabilities = inner.capabilities
    yield Fallback([other, inner], DEADLINE_S)


RIGS = {
    "elsewhere": wrapping(gateway.RIGS["tcp"], second),
    "first": wrapping(memory.running, first),
    "second": wrapping(local.RIGS["openat2"], second),
}
