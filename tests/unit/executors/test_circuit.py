"""When an executor is left alone, and when it is asked again."""

import pytest

from gateway.domain.errors import CircuitOpen, Outage, TimedOut, Unavailable, Unreachable
from gateway.executors.circuit import OPEN_S, Circuit, State

UNREACHABLE = Unreachable("no connection")
SILENT = TimedOut("silent")
FAILING = Unavailable("500")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def circuit(*failures: tuple[str, Outage]) -> tuple[Circuit, Clock, list[State]]:
    changes: list[State] = []
    clock = Clock()
    made = Circuit(changes.append, clock)
    for workspace, error in failures:
        made.admit()
        made.failed(workspace, error)
    return made, clock, changes


@pytest.mark.parametrize(
    ("failures", "state"),
    [
        ([("s1", UNREACHABLE)] * 4, State.CLOSED),
        ([("s1", UNREACHABLE)] * 5, State.OPEN),
        ([("s1", SILENT)] * 50, State.CLOSED),
        ([("s1", SILENT), ("s2", SILENT)] * 25, State.CLOSED),
        ([(f"s{n}", FAILING) for n in range(5)], State.OPEN),
        ([("s1", SILENT)] * 3 + [("s2", FAILING), ("s3", SILENT)], State.OPEN),
        ([("s1", UNREACHABLE)] * 4 + [("s1", SILENT)], State.CLOSED),
    ],
)
def test_opens_when_no_single_workspace_can_be_the_cause(failures, state):
    made, _, _ = circuit(*failures)

    assert made.state is state


def test_an_answer_in_between_starts_the_count_again():
    made, _, _ = circuit(*[("s1", UNREACHABLE)] * 4)
    made.answered()
    for _ in range(4):
        made.failed("s1", UNREACHABLE)

    assert made.state is State.CLOSED


def opened() -> tuple[Circuit, Clock, list[State]]:
    return circuit(*[("s1", UNREACHABLE)] * 5)


def test_is_not_asked_while_open():
    made, clock, _ = opened()
    clock.now = OPEN_S - 0.01

    with pytest.raises(CircuitOpen):
        made.admit()


def test_one_call_probes_it_and_closes_it():
    made, clock, changes = opened()
    clock.now = OPEN_S
    made.admit()
    with pytest.raises(CircuitOpen):
        made.admit()

    made.answered()

    made.admit()
    assert changes == [State.OPEN, State.HALF_OPEN, State.CLOSED]


def test_a_probe_that_fails_opens_it_for_as_long_again():
    made, clock, _ = opened()
    clock.now = OPEN_S
    made.admit()
    made.failed("s9", SILENT)
    clock.now = 2 * OPEN_S - 0.01
    with pytest.raises(CircuitOpen):
        made.admit()
    clock.now = 2 * OPEN_S

    made.admit()


def test_a_probe_that_is_abandoned_leaves_the_next_call_to_probe():
    made, clock, _ = opened()
    clock.now = OPEN_S
    made.admit()
    made.abandoned()

    made.admit()

    assert made.state is State.HALF_OPEN


def test_calls_that_fail_late_do_not_keep_it_open_for_longer():
    made, clock, _ = opened()
    clock.now = OPEN_S - 0.01
    made.failed("s1", UNREACHABLE)
    clock.now = OPEN_S

    made.admit()

    assert made.state is State.HALF_OPEN
