"""The guard: around an executor of this host, one that has no descriptors, and one elsewhere."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.config.model import ExecutorConfig
from gateway.executors.base import Executor
from gateway.executors.guarded import Guarded
from tests.rigs import gateway, local, memory, wrapping

MOST = 1 << 30


@asynccontextmanager
async def guarded(inner: Executor) -> AsyncIterator[Executor]:
    yield Guarded(inner, ExecutorConfig(type=inner.name), MOST)


RIGS = {
    "gateway": wrapping(gateway.RIGS["unix"], guarded),
    "local": wrapping(local.RIGS["openat2"], guarded),
    "memory": wrapping(memory.running, guarded),
}
