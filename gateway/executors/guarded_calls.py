"""Calls under guard: each has its slot and its time, and only verdicts come out of it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

import structlog

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
from gateway.executors.circuit import Admission
from gateway.executors.streams import FileStream, Members, Walk
from gateway.executors.within import CUT_OFF, within
from gateway.system.around import Around

if TYPE_CHECKING:  # which makes the calls
    from gateway.executors.guarded import Guarded

log = structlog.get_logger()

T = TypeVar("T", bound=FileStream | Walk | Members | str)

_RETRY_AFTER_S = 0.05

_LATE = "the executor did not answer in time"


class _Entering(Around[T]):
    """What *enter* opens, once *begin* has begun with it, until a moment of `time.monotonic`."""

    def __init__(
        self,
        guard: "Guarded",
        operation: str,
        enter: Callable[[], AbstractAsyncContextManager[T]],
        begin: Callable[[T, float], Awaitable[T]],
    ) -> None:
        self._guard = guard
        self._operation = operation
        self._enter = enter
        self._begin = begin

    async def _entered(self, ends_at: float) -> T:
        inner = self._enter()
        try:
            product = await inner.__aenter__()
            try:
                begun = await self._begin(product, ends_at)
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
        self.inner = inner
        return begun


class Body(_Entering[FileStream]):
    """The body of an archive's member: no call of the backend, so that it needs no slot."""

    async def __aenter__(self) -> FileStream:
        timeout = self._guard.timeout
        try:
            return await within(timeout.first_byte, self._entered(monotonic() + timeout.total))
        except TimeoutError as exc:
            raise TimedOut(_LATE) from exc


class Call(_Entering[T]):
    """One call of the inner executor: entered with what it opened, left when that is done with.

    One that *collects* all that there is before it is entered has the time for the whole answer,
    not the time to its first byte: that it takes long says only that the workspace is large.
    """

    def __init__(
        self,
        guard: "Guarded",
        operation: str,
        workspace: str,
        enter: Callable[[], AbstractAsyncContextManager[T]],
        begin: Callable[[T, float], Awaitable[T]],
        *,
        collects: bool = False,
    ) -> None:
        super().__init__(guard, operation, enter, begin)
        self._workspace = workspace
        self._collects = collects
        self._has_slot = False
        self._admission: Admission | None = None

    async def __aenter__(self) -> T:
        guard, began = self._guard, monotonic()
        self._circuit = guard.circuit_of(self._workspace)
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
            self._circuit.answered()
            raise
        except asyncio.CancelledError:
            if self._was_too_slow():
                outcome = TimedOut.code
                self._tell(TimedOut(_LATE))
            raise
        finally:
            if outcome == "cancelled":
                self._abandon()
            if outcome != "ok":
                self._free_slot()
            guard.metrics.count(self._operation, outcome, monotonic() - began)
        self._circuit.answered()
        if not isinstance(product, str) and product.complete:
            self._free_slot()
        return product

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self.inner.__aexit__(kind, exc, trace)
        finally:
            self._free_slot()

    async def _admitted(self) -> T:
        guard = self._guard
        self._circuit.check(self._workspace)
        guard.earn_retry()
        first_byte_s = guard.timeout.first_byte
        try:
            await within(first_byte_s, self._take_slot())
        except TimeoutError as exc:
            raise Busy("the executor has too much to do") from exc
        # Not what the wait has left of it: the backend would be blamed for others who are slow.
        total_s = guard.timeout.total
        self._ends_at = monotonic() + total_s
        answer_s = total_s if self._collects else first_byte_s
        try:
            return await within(answer_s, self._entered_in_two_tries())
        except TimeoutError as exc:
            raise TimedOut(_LATE) from exc

    async def _take_slot(self) -> None:
        await self._guard.slots.acquire(self._workspace)
        self._has_slot = True

    async def _entered_in_two_tries(self) -> T:
        # Not before: a trial that waits for its turn would keep all others out.
        self._admission = self._circuit.admit(self._workspace)
        self._admitted_at = monotonic()
        try:
            return await self._entered(self._ends_at)
        except Unavailable as exc:
            if isinstance(exc, Busy) or not self._guard.may_retry():
                raise
        await asyncio.sleep(_RETRY_AFTER_S)
        return await self._entered(self._ends_at)

    def _tell(self, error: Outage) -> None:
        """Let circuit and log know of an outage, if it is one of the backend."""
        guard = self._guard
        if isinstance(error, CircuitOpen):
            return
        if isinstance(error, WorkspaceGone):
            self._circuit.answered()
        elif isinstance(error, Unsupported | Busy):  # found out here, perhaps without asking
            self._abandon()
        elif self._admission is not None:
            self._circuit.failed(self._admission, error)
        log.warning(
            "executor_outage",
            executor=guard.name,
            operation=self._operation,
            reason=error.code,
            cause=repr(error.__cause__),
        )

    def _abandon(self) -> None:
        if self._admission is not None:
            self._circuit.abandoned(self._admission)

    def _was_too_slow(self) -> bool:
        """Whether the time of a chain ran out while the backend had a fair part of it."""
        deadline = CUT_OFF.get()
        if deadline is None or not deadline.expired() or self._admission is None:
            return False
        timeout = self._guard.timeout
        return monotonic() - self._admitted_at >= (
            timeout.total if self._collects else timeout.connect
        )

    def _free_slot(self) -> None:
        if self._has_slot:
            self._has_slot = False
            self._guard.slots.release(self._workspace)
