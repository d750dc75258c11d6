"""Several executors that answer as one: the next is asked when one gives no answer."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from typing import TypeVar

from gateway.domain.errors import (
    GatewayError,
    Outage,
    SessionNotFound,
    TimedOut,
    Unavailable,
    Unsupported,
    WorkspaceGone,
)
from gateway.domain.paths import WorkspacePath
from gateway.executors.base import Changed, Executor, Health, Sandbox
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
from gateway.executors.within import CUT_OFF
from gateway.system.around import Around
from gateway.telemetry import metrics

T = TypeVar("T", bound=FileStream | Walk | Members)

_RESERVED = 0.25  # of the deadline, for the last executor


class Fallback(Executor):
    """Asks the executors of *chain* in turn, all within *deadline_s* up to the first byte.

    An `Outage` of one, or that it has no such session, makes the next one's answer count. Any other
    verdict is the answer. What is promised is what the first of them can do; to make workspaces and
    to notice changes, whether any can.
    """

    def __init__(self, chain: Sequence[Executor], deadline_s: float) -> None:
        super().__init__(chain[0].name)
        self.capabilities = replace(
            chain[0].capabilities,
            provisions=any(executor.capabilities.provisions for executor in chain),
            watches=any(executor.capabilities.watches for executor in chain),
        )
        self._chain = chain
        self._deadline_s = deadline_s

    async def probe(self) -> Health:
        """Ready if one of them is."""
        found = [await executor.probe() for executor in self._chain]
        ready = {e.name: str(health.ready) for e, health in zip(self._chain, found, strict=True)}
        return Health(any(health.ready for health in found), ready)

    def open(
        self, workspace: str, path: WorkspacePath, wanted: Wanted = EVERYTHING
    ) -> AbstractAsyncContextManager[FileStream]:
        """Open at the first that answers."""
        return _Asking(
            self._chain, self._deadline_s, lambda executor: executor.open(workspace, path, wanted)
        )

    def walk(
        self,
        workspace: str,
        path: WorkspacePath,
        *,
        depth: int,
        after: WorkspacePath | None = None,
        selection: Selection | None = None,
    ) -> AbstractAsyncContextManager[Walk]:
        """Walk at the first that answers."""
        return _Asking(
            self._chain,
            self._deadline_s,
            lambda executor: executor.walk(
                workspace, path, depth=depth, after=after, selection=selection
            ),
        )

    async def provision(self, sandbox: Sandbox) -> str:
        """Make the workspace at the first that has a way to; its outage is everybody's."""
        for executor in self._chain[:-1]:
            try:
                return await executor.provision(sandbox)
            except Unsupported:
                continue
        return await self._chain[-1].provision(sandbox)

    def changes(self, workspace: str) -> AsyncIterator[Changed]:
        """What the first notices that can: one below may have the same directory as the first."""
        for executor in self._chain:
            with suppress(Unsupported):
                return executor.changes(workspace)
        return super().changes(workspace)

    def archive(
        self, workspace: str, packed: Packed
    ) -> AbstractAsyncContextManager[Members | ArchiveStream]:
        """Begin an archive at the first that answers; its members are opened there, too."""
        return _Asking[Members | ArchiveStream](
            self._chain, self._deadline_s, lambda executor: executor.archive(workspace, packed)
        )


class _Asking(Around[T]):
    """Entered with the answer of the first executor that has one."""

    def __init__(
        self,
        chain: Sequence[Executor],
        deadline_s: float,
        call: Callable[[Executor], AbstractAsyncContextManager[T]],
    ) -> None:
        self._chain = chain
        self._deadline_s = deadline_s
        self._call = call

    async def __aenter__(self) -> T:
        ends_at = asyncio.get_running_loop().time() + self._deadline_s
        *others, last = self._chain
        failures: list[Outage] = []
        for executor, following in zip(others, self._chain[1:], strict=True):
            try:
                until = ends_at - _RESERVED * self._deadline_s
                return await self._entered(executor, until, failures)
            except Outage as exc:
                failures.append(exc)
            metrics.FALLBACKS.labels(executor.name, following.name, failures[-1].code).inc()
        try:
            return await self._entered(last, ends_at, failures)
        except Outage as exc:
            failures.append(exc)
        if all(isinstance(failure, WorkspaceGone) for failure in failures):
            raise SessionNotFound("session not found") from failures[0]
        raise Unavailable("no executor could answer") from failures[0]

    async def _entered(self, executor: Executor, until: float, failures: Sequence[Outage]) -> T:
        """What *executor* has, after the *failures* of others; its verdict tells both, too."""
        inner = self._call(executor)
        try:
            async with asyncio.timeout_at(until) as deadline:
                told = CUT_OFF.set(deadline)
                try:
                    product = await inner.__aenter__()
                finally:
                    CUT_OFF.reset(told)
        except TimeoutError as exc:
            raise TimedOut("the executor did not answer in time") from exc
        except SessionNotFound as exc:
            raise WorkspaceGone(exc.message) from exc
        except GatewayError as exc:
            exc.source = executor.name
            exc.fallback = failures[0].code if failures else None
            raise
        self.inner = inner
        if failures:
            product.fallback = failures[0].code
        return product
