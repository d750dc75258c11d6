"""Running a row: peers side by side, verified and warmed, then measured in turns."""

import contextlib
import time
from collections.abc import Callable, Iterator

from tests.benchmarks.load import Broken
from tests.benchmarks.model import Figures, Job, Outcome, Row
from tests.benchmarks.peers import Bench
from tests.benchmarks.peers.all import PEERS
from tests.benchmarks.processes import Missing

# What may go wrong with one peer without ending the run of the others.
_TROUBLE = (Missing, Broken, OSError, ValueError)
Say = Callable[[str], None]


def run(row: Row, bench: Bench, *, rounds: int, seconds: float, say: Say) -> Outcome:
    """Return what *rounds* interleaved rounds saw; peers in trouble are left out, with reasons."""
    outcome = Outcome(row)
    (_fresh if row.fresh else _side_by_side)(outcome, bench, rounds, seconds, say)
    return outcome


def _side_by_side(outcome: Outcome, bench: Bench, rounds: int, seconds: float, say: Say) -> None:
    row, jobs = outcome.row, {}
    with contextlib.ExitStack() as running:
        for name in row.peers:
            with _leaving_out(outcome, name, say):
                server = running.enter_context(PEERS[name](bench))
                job = Job(server, bench.corpus, seconds)
                row.verify(job)
                if not row.warming:
                    row.measure(Job(server, bench.corpus, min(seconds, 2)))
                jobs[name] = job
        for number in range(rounds):
            seen: dict[str, Figures] = {}
            for name, job in jobs.items():
                if name not in outcome.left_out:
                    with _leaving_out(outcome, name, say):
                        seen[name] = row.measure(job)
            _close(outcome, number, seen, say)


def _fresh(outcome: Outcome, bench: Bench, rounds: int, seconds: float, say: Say) -> None:
    row = outcome.row
    for number in range(-1, rounds):  # the round before the first warms the disk's caches
        seen: dict[str, Figures] = {}
        for name in row.peers:
            if name not in outcome.left_out:
                with _leaving_out(outcome, name, say), PEERS[name](bench) as server:
                    job = Job(server, bench.corpus, seconds)
                    if number < 0:
                        row.verify(job)
                    seen[name] = row.measure(job)
        if number >= 0:
            _close(outcome, number, seen, say)


@contextlib.contextmanager
def _leaving_out(outcome: Outcome, name: str, say: Say) -> Iterator[None]:
    try:
        yield
    except _TROUBLE as exc:
        outcome.left_out[name] = str(exc) or type(exc).__name__
        say(f"{outcome.row.name}: {name} is left out: {outcome.left_out[name]}")


def _close(outcome: Outcome, number: int, seen: dict[str, Figures], say: Say) -> None:
    outcome.rounds.append(seen)
    main = next(iter(outcome.row.figures))
    told = ", ".join(f"{name} {figures[main]:.4g}" for name, figures in seen.items())
    say(f"{outcome.row.name} round {number + 1}: {told} ({outcome.row.figures[main]})")
    time.sleep(0.2)  # lets what the last one left behind (closed sockets, log lines) settle
