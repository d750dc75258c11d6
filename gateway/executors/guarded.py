"""An executor around an executor, that keeps what the inner one does within bounds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import structlog

from gateway.config.model import ExecutorConfig
from gateway.domain.archives import ArchiveBounds
from gateway.domain.paths import LONGEST_PATH, WorkspacePath
from gateway.executors.base import Archives, Changed, Executor, Health, Sandbox
from gateway.executors.circuit import Circuit, State
from gateway.executors.guarded_bodies import (
    GuardedArchive,
    GuardedMembers,
    GuardedStream,
    GuardedWalk,
)
from gateway.executors.guarded_calls import Body, Call
from gateway.executors.slots import Slots
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
from gateway.telemetry import metrics

log = structlog.get_logger()

PROBE_S = 2.0
"""How long an executor may take to say how it is."""
_MOST_CIRCUITS = 1024  # of workspaces, those asked for last: some 3 MB
_RETRIES_AT_ONCE = 10.0
_RETRIES_PER_CALL = 0.1


class Guarded(Executor):
    """Holds *inner* to its slots and deadlines, and lets nothing but verdicts out of it.

    A call that meets an `Unavailable` backend is made once more, as long as retries stay under a
    tenth of all calls. A file whose size is not told may have *most_bytes*. Entering ends when a
    small file or short listing is there whole, of a larger one the beginning: what breaks before
    is an `Outage`, and another executor can still be asked.
    """

    def __init__(self, inner: Executor, config: ExecutorConfig, most_bytes: int) -> None:
        super().__init__(inner.name)
        self.capabilities = inner.capabilities
        self.timeout = config.timeout
        self.most_bytes = most_bytes
        self.slots = Slots(config.concurrency, inner.capabilities.per_workspace)
        self.circuit = Circuit(self._note_circuit, config.timeout.first_byte)
        self._own_circuits: dict[str, Circuit] = {}
        self.metrics = metrics.of_executor(inner.name)
        self.metrics.circuit.set(self.circuit.state.value)  # not what one before it has left
        self._inner = inner
        self._retries = _RETRIES_AT_ONCE

    async def probe(self) -> Health:
        """What the inner executor says within two seconds, and how the circuit of all is."""
        try:
            async with asyncio.timeout(PROBE_S):
                health = await self._inner.probe()
        except TimeoutError:
            health = Health(ready=False, details={"reason": "no answer"})
        except Exception:  # readiness tells of the others, too
            log.exception("executor_fault", executor=self.name, operation="probe")
            health = Health(ready=False, details={"reason": "failed in an unexpected way"})
        if self.capabilities.own_backends:
            return health
        circuit = self.circuit.state.name.lower()
        return Health(health.ready, {**health.details, "circuit": circuit})

    def circuit_of(self, workspace: str) -> Circuit:
        """The circuit of the backend that has *workspace*.

        Of those that workspaces have for themselves only the log tells: that the sandbox of one is
        gone for good is nothing to be alarmed by.
        """
        if not self.capabilities.own_backends:
            return self.circuit
        circuits = self._own_circuits
        circuit = circuits.pop(workspace, None)
        if circuit is None:
            if len(circuits) == _MOST_CIRCUITS:
                del circuits[next(iter(circuits))]
            circuit = Circuit(partial(self._log_own_circuit, workspace), self.timeout.first_byte)
        circuits[workspace] = circuit
        return circuit

    def open(
        self, workspace: str, path: WorkspacePath, wanted: Wanted = EVERYTHING
    ) -> AbstractAsyncContextManager[FileStream]:
        """Open through the guard."""
        return Call(
            self,
            "open",
            workspace,
            lambda: self._inner.open(workspace, path, wanted),
            partial(self._begun_stream, wanted),
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
        """Walk through the guard."""
        return Call(
            self,
            "walk",
            workspace,
            lambda: self._inner.walk(
                workspace, path, depth=depth, after=after, selection=selection
            ),
            self._begun_walk,
        )

    async def provision(self, sandbox: Sandbox) -> str:
        """Make the workspace through the guard."""

        @asynccontextmanager
        async def made() -> AsyncIterator[str]:
            yield await self._inner.provision(sandbox)

        async with Call(self, "provision", sandbox.session_id, made, _as_it_is) as workspace:
            return workspace

    def changes(self, workspace: str) -> AsyncIterator[Changed]:
        """What the inner one notices: that is no call, and takes no slot."""
        return self._inner.changes(workspace)

    def archive(
        self, workspace: str, packed: Packed
    ) -> AbstractAsyncContextManager[Members | ArchiveStream]:
        """Begin an archive through the guard: one that is walked, by guarded calls one by one."""
        if self.capabilities.archives in (Archives.REFUSED, Archives.WALKED):
            return super().archive(workspace, packed)
        return self._called(workspace, packed)

    @asynccontextmanager
    async def _called(
        self, workspace: str, packed: Packed
    ) -> AsyncIterator[Members | ArchiveStream]:
        collects = self.capabilities.archives is Archives.MEMBERS
        if collects:
            packed = await packed.selected(self, workspace)
        async with Call[Members | ArchiveStream](
            self,
            "archive",
            workspace,
            lambda: self._inner.archive(workspace, packed),
            partial(self._begun_archive, packed.bounds),
            collects=collects,
        ) as archive:
            yield archive

    def may_retry(self) -> bool:
        """Whether one more retry stays within the budget; it is taken from it."""
        if self._retries < 1:
            return False
        self._retries -= 1
        return True

    def earn_retry(self) -> None:
        """Count a call that may pay for a tenth of a retry."""
        self._retries = min(_RETRIES_AT_ONCE, self._retries + _RETRIES_PER_CALL)

    async def _begun_stream(self, wanted: Wanted, stream: FileStream, ends_at: float) -> FileStream:
        # What has a descriptor is a file of this host: it can be short, but neither late nor long.
        if stream.descriptor is not None:
            return stream
        guarded = GuardedStream(stream, self.timeout.idle, ends_at, self.most_bytes)
        if wanted.unless is None or wanted.unless != stream.entry.version:
            await guarded.begin()
        return guarded

    async def _begun_walk(self, walk: Walk, ends_at: float) -> Walk:
        if walk.complete:
            return walk
        guarded = GuardedWalk(walk, self.timeout.idle, ends_at)
        await guarded.begin(self.timeout.first_byte / 4)
        return guarded

    async def _begun_archive(
        self, bounds: ArchiveBounds, archive: Members | ArchiveStream, ends_at: float
    ) -> Members | ArchiveStream:
        if isinstance(archive, Members):
            return GuardedMembers(archive, self._body)
        if archive.descriptor is not None:
            return archive
        # Some bytes grow when they are compressed, and each member has two headers with its path.
        most_bytes = bounds.bytes + bounds.bytes // 1000 + bounds.entries * 4 * LONGEST_PATH
        return GuardedArchive(archive, self.timeout.idle, ends_at, most_bytes)

    def _body(
        self, opening: AbstractAsyncContextManager[FileStream]
    ) -> AbstractAsyncContextManager[FileStream]:
        return Body(self, "archive", lambda: opening, partial(self._begun_stream, EVERYTHING))

    def _note_circuit(self, state: State) -> None:
        self.metrics.circuit.set(state.value)
        log.warning("executor_circuit", executor=self.name, state=state.name.lower())

    def _log_own_circuit(self, workspace: str, state: State) -> None:
        state_name = state.name.lower()
        log.info("executor_circuit", executor=self.name, workspace=workspace, state=state_name)


async def _as_it_is(workspace: str, ends_at: float) -> str:
    return workspace
