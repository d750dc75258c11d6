"""Leaves an executor alone that keeps failing, and finds out when it works again."""

from collections.abc import Callable
from enum import Enum
from time import monotonic

from gateway.domain.errors import CircuitOpen, Outage, Unreachable

_FAILURES = 5  # in a row
_WORKSPACES = 3  # that they must come from: hostile files may make one workspace fail at will
OPEN_S = 5.0


class State(Enum):
    """How far an executor is trusted to answer; the values are those of the metric."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Circuit:
    """Opens after five failures in a row, of three workspaces or without any connection.

    While it is open, `admit` refuses at once. After `OPEN_S` it lets one call through: if that
    one is answered the circuit closes, if not it stays open for as long again.
    """

    def __init__(self, on_change: Callable[[State], None], clock: Callable[[], float] = monotonic):
        self.state = State.CLOSED
        self._on_change = on_change
        self._clock = clock
        self._failures: list[tuple[str, bool]] = []
        self._open_until = 0.0

    def check(self) -> None:
        """Raise `CircuitOpen` if no call is let through at present."""
        if self.state is State.CLOSED:
            return
        if self.state is State.HALF_OPEN or self._clock() < self._open_until:
            raise CircuitOpen("the executor is left alone after failing repeatedly")

    def admit(self) -> None:
        """Let a call through, whose end must be told; raise `CircuitOpen` if it is not let."""
        self.check()
        if self.state is State.OPEN:
            self._become(State.HALF_OPEN)

    def answered(self) -> None:
        """The backend answered, if only that something is not there."""
        self._failures.clear()
        if self.state is not State.CLOSED:
            self._become(State.CLOSED)

    def failed(self, workspace: str, error: Outage) -> None:
        """The backend gave no answer about *workspace*."""
        if self.state is State.OPEN:  # one of the calls that were under way
            return
        self._failures = [
            *self._failures[1 - _FAILURES :],
            (workspace, isinstance(error, Unreachable)),
        ]
        is_fault_of_backend = (
            all(unreached for _, unreached in self._failures)
            or len({name for name, _ in self._failures}) >= _WORKSPACES
        )
        if self.state is State.HALF_OPEN or (
            len(self._failures) == _FAILURES and is_fault_of_backend
        ):
            self._open_until = self._clock() + OPEN_S
            self._become(State.OPEN)

    def abandoned(self) -> None:
        """The call ended, and says nothing of the backend."""
        if self.state is State.HALF_OPEN:
            self._become(State.OPEN)

    def _become(self, state: State) -> None:
        if state is not self.state:
            self.state = state
            self._on_change(state)
