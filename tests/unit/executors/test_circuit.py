"""When an executor is left alone, and when it is asked again."""

import pytest

from gateway.domain.errors import CircuitOpen, Outage, TimedOut, Unavailable, Unreachable
from gateway.executors.circuit import OPEN_S, Circuit, State

TRIAL_S = 30.0
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
    made = Circuit(changes.append, TRIAL_S, clock)
    for workspace, error in failures:
        made.failed(made.admit(workspace), error)
    return made, clock, changes


@pytest.mark.parametrize(
    ("failures", "state"),
    [
        ([("s1", UNREACHABLE)] * 4, State.CLOSED),
        ([("s1", UNREACHABLE)] * 5, State.OPEN),
        ([("s1", SILENT)] * 4, State.CLOSED),
        ([("s1", SILENT)] * 5, State.OPEN),
        ([("s1", SILENT)] * 4 + [("s2", SILENT)], State.OPEN),
        ([(f"s{n}", FAILING) for n in range(5)], State.OPEN),
        ([("s1", SILENT)] * 3 + [("s2", FAILING), ("s3", SILENT)], State.OPEN),
    ],
)
def test_opens_when_all_that_is_asked_for_fails(failures, state):
    made, _, _ = circuit(*failures)

    assert made.state is state


@pytest.mark.parametrize(
    ("failures", "state"),
    [
        ([("s1", SILENT)] * 50, State.CLOSED),
        ([("s1", SILENT), ("s2", SILENT)] * 25, State.CLOSED),
        ([("s1", UNREACHABLE)] * 4 + [("s1", SILENT)], State.CLOSED),
        ([("s1", UNREACHABLE)] * 5, State.OPEN),
        ([("s1", SILENT)] * 3 + [("s2", FAILING), ("s3", SILENT)], State.OPEN),
    ],
)
def test_opens_among_several_when_no_few_of_them_can_be_the_cause(failures, state):
    made, _, _ = circuit()
    for workspace, error in failures:
        made.admit("fine")
        made.failed(made.admit(workspace), error)

    assert made.state is state


def test_nobody_is_refused_for_the_failures_of_another_alone():
    """Whoever makes his own workspace fail, in as many calls as he likes, costs nobody else one."""
    made, clock, _ = circuit()
    for _ in range(5):
        for _ in range(20):
            clock.now += OPEN_S
            made.failed(made.admit("s1"), SILENT)
        with pytest.raises(CircuitOpen):
            made.admit("s1")

        made.admit("s2")

        assert made.state is State.CLOSED


def test_a_workspace_does_not_wait_for_the_trial_of_another():
    made, clock, _ = circuit(*[("s1", SILENT)] * 5)
    clock.now = OPEN_S
    made.admit("s1")

    made.admit("s2")

    assert made.state is State.CLOSED


def test_what_was_asked_for_long_ago_keeps_it_from_opening_no_more():
    made, _, _ = circuit()
    for number in range(5):
        made.admit(f"s{number}")
    made.answered()
    for _ in range(10):
        made.failed(made.admit("s1"), SILENT)

    assert made.state is State.OPEN


def test_an_answer_in_between_starts_the_count_again():
    made, _, _ = circuit(*[("s1", UNREACHABLE)] * 4)
    made.answered()
    for _ in range(4):
        made.failed(made.admit("s1"), UNREACHABLE)

    assert made.state is State.CLOSED


def opened() -> tuple[Circuit, Clock, list[State]]:
    return circuit(*[("s1", UNREACHABLE)] * 5)


def test_is_not_asked_while_open():
    made, clock, _ = opened()
    clock.now = OPEN_S - 0.01

    with pytest.raises(CircuitOpen):
        made.admit("s1")


def test_one_call_tries_it_and_closes_it():
    made, clock, changes = opened()
    clock.now = OPEN_S
    made.admit("s1")
    with pytest.raises(CircuitOpen):
        made.admit("s1")

    made.answered()

    made.admit("s1")
    assert changes == [State.OPEN, State.HALF_OPEN, State.CLOSED]


def test_a_trial_that_fails_opens_it_for_as_long_again():
    made, clock, _ = opened()
    clock.now = OPEN_S
    made.failed(made.admit("s9"), SILENT)
    clock.now = 2 * OPEN_S - 0.01
    with pytest.raises(CircuitOpen):
        made.admit("s1")
    clock.now = 2 * OPEN_S

    made.admit("s1")


def test_a_trial_that_is_abandoned_leaves_the_next_call_to_try():
    made, clock, _ = opened()
    clock.now = OPEN_S
    made.abandoned(made.admit("s1"))

    made.admit("s1")

    assert made.state is State.HALF_OPEN


def test_a_trial_that_takes_too_long_is_not_waited_for():
    """Archives may take an hour: nobody is to be kept out by one that long."""
    made, clock, _ = opened()
    clock.now = OPEN_S
    slow = made.admit("s1")
    clock.now += TRIAL_S - 0.01
    with pytest.raises(CircuitOpen):
        made.admit("s1")
    clock.now = OPEN_S + TRIAL_S

    made.admit("s1")

    for end in (Circuit.abandoned, lambda made, call: made.failed(call, UNREACHABLE)):
        end(made, slow)
        with pytest.raises(CircuitOpen):
            made.admit("s1")


def test_calls_that_fail_late_do_not_keep_it_open_for_longer():
    made, clock, _ = circuit()
    late = made.admit("s1")
    for _ in range(5):
        made.failed(made.admit("s1"), UNREACHABLE)
    clock.now = OPEN_S - 0.01
    made.failed(late, UNREACHABLE)
    clock.now = OPEN_S

    made.admit("s1")

    assert made.state is State.HALF_OPEN


@pytest.mark.parametrize(
    "end",
    [Circuit.abandoned, lambda made, call: made.failed(call, UNREACHABLE)],
    ids=["abandoned", "failed"],
)
def test_only_the_trial_makes_room_for_another(end):
    """Not a call from before it opened, nor the trial of an earlier time."""
    made, clock, _ = circuit()
    before = made.admit("s1")
    for _ in range(5):
        made.failed(made.admit("s1"), UNREACHABLE)
    clock.now = OPEN_S
    first = made.admit("s1")
    made.failed(first, UNREACHABLE)
    clock.now = 2 * OPEN_S
    made.admit("s1")

    for older in (before, first):
        end(made, older)

        assert made.state is State.HALF_OPEN
        with pytest.raises(CircuitOpen):
            made.admit("s1")


def test_a_late_answer_closes_it_and_the_trial_is_a_call_like_others():
    made, clock, changes = opened()
    clock.now = OPEN_S
    trial = made.admit("s1")
    made.answered()

    made.failed(trial, UNREACHABLE)
    made.abandoned(trial)

    assert changes == [State.OPEN, State.HALF_OPEN, State.CLOSED]
    made.admit("s1")


def test_a_trial_that_fails_forgets_no_failures_of_others():
    """Whoever asks most tries most: that alone must not close it."""
    among = [("a", SILENT), ("b", SILENT), ("c", SILENT), ("hot", SILENT), ("hot", SILENT)]
    made, clock, _ = circuit(*among)

    for _ in range(5):
        clock.now += 2 * OPEN_S
        made.failed(made.admit("hot"), SILENT)
        for workspace in "ab":
            with pytest.raises(CircuitOpen):
                made.admit(workspace)

    assert made.state is State.OPEN


@pytest.mark.parametrize(
    ("end", "pause_s"),
    [(Circuit.abandoned, 0), (lambda made, call: made.failed(call, SILENT), OPEN_S)],
    ids=["abandoned", "failed"],
)
def test_whoever_has_tried_in_vain_lets_others_go_first(end, pause_s):
    """Or one workspace, if only it asks often enough, keeps the executor from all others."""
    made, clock, _ = circuit(*[(name, SILENT) for name in "abcab"])
    clock.now = OPEN_S
    trial = made.admit("hot")
    clock.now += OPEN_S
    end(made, trial)
    clock.now += pause_s
    with pytest.raises(CircuitOpen):
        made.admit("hot")

    made.admit("a")

    assert made.state is State.HALF_OPEN


def test_two_that_try_in_turn_let_others_go_first_as_well():
    made, clock, _ = circuit(*[(name, SILENT) for name in "abcab"])
    for name in ("hot", "hotter"):
        clock.now += OPEN_S
        made.failed(made.admit(name), SILENT)
    clock.now += OPEN_S
    for name in ("hot", "hotter"):
        with pytest.raises(CircuitOpen):
            made.admit(name)

    made.admit("a")

    assert made.state is State.HALF_OPEN
