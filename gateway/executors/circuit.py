"""Leaves an executor alone that keeps failing, and finds out when it works again."""

from collections import deque
from collections.abc import Callable
from enum import Enum
from time import monotonic
from typing import NamedTuple

from gateway.domain.errors import CircuitOpen, Outage, Unreachable

_FAILURES = 5  # in a row
_WORKSPACES = 3  # that are several: hostile files may make one workspace fail at will
_LATELY = 10  # times that calls asked to be let through, most of them twice
OPEN_S = 5.0


class State(Enum):
    """How far an executor is trusted to answer; the values are those of the metric."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Admission(NamedTuple):
    """A call about *workspace* that was let through; each change of state begins a *period*."""

    workspace: str
    period: int


class Circuit:
    """Opens after five failures in a row that no single workspace can be made the cause of.

    That is so if there was no connection, if they are of three workspaces, or of all that were
    asked for lately: an executor may have only one. While it is open, `admit` refuses at once,
    unless the workspace is one more, so that the failures are no longer those of all. After
    `OPEN_S` it lets one call through as a trial, whose failure is one like others, and another one
    if that has not ended in *trial_s* seconds; other workspaces than the last two's go first.
    Any answer closes it; a failure counts only as long as the circuit is as it was when the call
    was let through.
    """

    def __init__(
        self,
        on_change: Callable[[State], None],
        trial_s: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.state = State.CLOSED
        self._on_change = on_change
        self._trial_s = trial_s
        self._clock = clock
        self._asked: deque[str] = deque(maxlen=_LATELY)
        self._failures: deque[tuple[str, bool]] = deque(maxlen=_FAILURES)
        self._open_until = 0.0
        self._trials: deque[str] = deque(maxlen=_WORKSPACES - 1)  # of which workspaces
        self._period = 0

    def check(self, workspace: str) -> None:
        """Raise `CircuitOpen` if no call about *workspace* is let through at present."""
        self._asked.append(workspace)
        if self.state is State.CLOSED:
            return
        if not self._is_backend_at_fault():
            self._become(State.CLOSED)
        elif self._clock() < self._left_alone_until(workspace):
            raise CircuitOpen("the executor is left alone after failing repeatedly")

    def admit(self, workspace: str) -> Admission:
        """Let a call through, whose end must be told; raise `CircuitOpen` if it is not let."""
        self.check(workspace)
        if self.state is not State.CLOSED:
            self._trials.append(workspace)
            self._open_until = self._clock() + self._trial_s
            self._period += 1  # one before it that has taken too long is a call like others
            self._become(State.HALF_OPEN)
        return Admission(workspace, self._period)

    def answered(self) -> None:
        """The backend answered, if only that something is not there."""
        self._failures.clear()
        if self.state is not State.CLOSED:
            self._become(State.CLOSED)

    def failed(self, call: Admission, error: Outage) -> None:
        """The backend gave no answer to *call*."""
        if call.period != self._period:
            return
        if self.state is State.HALF_OPEN:
            # It takes the place of one of its own: that others failed, too, is not forgotten.
            own = [failure for failure in self._failures if failure[0] == call.workspace]
            if own:
                self._failures.remove(own[0])
        self._failures.append((call.workspace, isinstance(error, Unreachable)))
        self._open_until = self._clock() + OPEN_S
        self._become(State.OPEN if self._is_backend_at_fault() else State.CLOSED)

    def abandoned(self, call: Admission) -> None:
        """*call* ended, and says nothing of the backend."""
        if self.state is State.HALF_OPEN and call.period == self._period:
            self._open_until = self._clock()
            self._become(State.OPEN)

    def _left_alone_until(self, workspace: str) -> float:
        # Some that ask all the time are always the first, and may be made to fail at will.
        others = any(failed not in self._trials for failed, _ in self._failures)
        return self._open_until + (OPEN_S if others and workspace in self._trials else 0.0)

    def _is_backend_at_fault(self) -> bool:
        if len(self._failures) < _FAILURES:
            return False
        if all(unreached for _, unreached in self._failures):
            return True
        failing = {workspace for workspace, _ in self._failures}
        return len(failing) >= _WORKSPACES or failing.issuperset(self._asked)

    def _become(self, state: State) -> None:
        if state is not self.state:
            self.state = state
            self._period += 1
            self._on_change(state)
