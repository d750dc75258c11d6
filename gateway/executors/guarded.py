"""An executor around an executor, that keeps what the inner one does within bounds."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Generic, TypeVar

import structlog

from gateway.config.model import ExecutorConfig
from gateway.domain.errors import (
    Busy,
    CircuitOpen,
    GatewayError,
    Outage,
    ProtocolFault,
    StreamBroken,
    TimedOut,
    Unavailable,
    Unsupported,
    WorkspaceGone,
)
from gateway.domain.paths import WorkspacePath
from gateway.executors.base import (
    EVERYTHING,
    Executor,
    FileStream,
    Health,
    Selection,
    Walk,
    Wanted,
)
from gateway.executors.circuit import Circuit, State
from gateway.executors.guarded_bodies import GuardedStream, GuardedWalk
from gateway.executors.slots import Slots
from gateway.executors.within import CUT_OFF, within
from gateway.telemetry import metrics

log = structlog.get_logger()

T = TypeVar("T", bound=FileStream | Walk)

_RETRY_AFTER_S = 0.05
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
        self.circuit = Circuit(self._note_circuit)
        self.metrics = metrics.of_executor(inner.name)
        self._inner = inner
        self._retries = _RETRIES_AT_ONCE

    async def probe(self) -> Health:
        """What the inner executor says, and whether it is left alone at present."""
        health = await self._inner.probe()
        circuit = self.circuit.state.name.lower()
        return Health(health.ready, {**health.details, "circuit": circuit})

    def open(
        self, workspace: str, path: WorkspacePath, wanted: Wanted = EVERYTHING
    ) -> AbstractAsyncContextManager[FileStream]:
        """Open through the guard."""
        return _Call(
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
        return _Call(
            self,
            "walk",
            workspace,
            lambda: self._inner.walk(
                workspace, path, depth=depth, after=after, selection=selection
            ),
            self._begun_walk,
        )

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
        guarded = GuardedWalk(walk, self.timeout.idle, ends_at)
        await guarded.begin(self.timeout.first_byte / 4)
        return guarded

    def _note_circuit(self, state: State) -> None:
        self.metrics.circuit.set(state.value)
        log.warning("executor_circuit", executor=self.name, state=state.name.lower())


class _Call(AbstractAsyncContextManager[T], Generic[T]):
    """One call of the inner executor: entered with what it opened, left when that is done with."""

    def __init__(
        self,
        guard: Guarded,
        operation: str,
        workspace: str,
        enter: Callable[[], AbstractAsyncContextManager[T]],
        begin: Callable[[T, float], Awaitable[T]],
    ) -> None:
        self._guard = guard
        self._operation = operation
        self._workspace = workspace
        self._enter = enter
        self._begin = begin
        self._inner: AbstractAsyncContextManager[T] | None = None
        self._has_slot = False
        self._admitted_at: float | None = None

    async def __aenter__(self) -> T:
        guard, began = self._guard, monotonic()
        self._ends_at = began + guard.timeout.total
        outcome = "cancelled"
        try:
            product = await self._admitted()
            outcome = "ok"
        except Outage as exc:
            outcome = exc.code
            self._tell(exc)
            raise
        except GatewayError:
            outcome = "refused"
            guard.circuit.answered()
            raise
        except asyncio.CancelledError:
            if self._was_too_slow():
                outcome = TimedOut.code
                self._tell(TimedOut("the executor did not answer in time"))
            raise
        finally:
            if outcome == "cancelled":
                self._abandon()
            if outcome != "ok":
                self._free_slot()
            guard.metrics.count(self._operation, outcome, monotonic() - began)
        guard.circuit.answered()
        if isinstance(product, FileStream) and product.complete:
            self._free_slot()
        return product

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._inner is not None
        try:
            await self._inner.__aexit__(kind, exc, trace)
        finally:
            self._free_slot()

    async def _admitted(self) -> T:
        guard = self._guard
        guard.circuit.check()
        guard.earn_retry()
        try:
            return await within(guard.timeout.first_byte, self._entered_in_two_tries())
        except TimeoutError as exc:
            if self._has_slot:
                raise TimedOut("the executor did not answer in time") from exc
            raise Busy("the executor has too much to do") from exc

    async def _entered_in_two_tries(self) -> T:
        await self._guard.slots.acquire(self._workspace)
        self._has_slot = True
        # Not before: a call that probes while it waits for its turn would keep all others out.
        self._guard.circuit.admit()
        self._admitted_at = monotonic()
        try:
            return await self._entered()
        except Unavailable as exc:
            if isinstance(exc, Busy) or not self._guard.may_retry():
                raise
        await asyncio.sleep(_RETRY_AFTER_S)
        return await self._entered()

    async def _entered(self) -> T:
        inner = self._enter()
        try:
            product = await inner.__aenter__()
            try:
                begun = await self._begin(product, self._ends_at)
            except BaseException as exc:
                await inner.__aexit__(type(exc), exc, exc.__traceback__)
                raise
        except (GatewayError, TimeoutError):
            raise
        except StreamBroken as exc:
            raise ProtocolFault(str(exc)) from exc
        except Exception as exc:
            log.exception("executor_fault", executor=self._guard.name, operation=self._operation)
            raise ProtocolFault("the executor failed in an unexpected way") from exc
        self._inner = inner
        return begun

    def _tell(self, error: Outage) -> None:
        """Let circuit and log know of an outage, if it is one of the backend."""
        guard = self._guard
        if isinstance(error, CircuitOpen):
            return
        if isinstance(error, WorkspaceGone):
            guard.circuit.answered()
        elif isinstance(error, Unsupported | Busy):  # found out here, perhaps without asking
            self._abandon()
        else:
            guard.circuit.failed(self._workspace, error)
        log.warning(
            "executor_outage",
            executor=guard.name,
            operation=self._operation,
            reason=error.code,
            cause=repr(error.__cause__),
        )

    def _abandon(self) -> None:
        if self._admitted_at is not None:
            self._guard.circuit.abandoned()

    def _was_too_slow(self) -> bool:
        """Whether the time of a chain ran out while the backend had a fair part of it."""
        deadline, asked_at = CUT_OFF.get(), self._admitted_at
        if deadline is None or not deadline.expired() or asked_at is None:
            return False
        return monotonic() - asked_at >= self._guard.timeout.connect

    def _free_slot(self) -> None:
        if self._has_slot:
            self._has_slot = False
            self._guard.slots.release(self._workspace)
