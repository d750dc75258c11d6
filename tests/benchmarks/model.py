"""What a benchmark is made of: rows that measure, goals that judge, rounds that were seen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median

from tests.benchmarks.corpus import Corpus
from tests.benchmarks.processes import Server

Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Job:
    """What a measurement may use."""

    server: Server
    corpus: Corpus
    seconds: float


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure of the gateway shall be: against a peer's, or (no *peer*) by itself."""

    figure: str
    peer: str | None = None
    at_least: float | None = None
    at_most: float | None = None

    def __str__(self) -> str:
        sign, bound = ("≥", self.at_least) if self.at_most is None else ("≤", self.at_most)
        return f"{sign} {bound:g}" + "x" * (self.peer is not None)

    def holds(self, value: float) -> bool:
        """Whether *value* (a ratio if there is a peer) is good enough."""
        above = self.at_least is None or value >= self.at_least
        return above and (self.at_most is None or value <= self.at_most)


@dataclass(frozen=True, slots=True)
class Row:
    """One job that the gateway and its peers do in turns.

    *peers* run side by side, only one of them at work, and the first is the gateway in some form;
    a *fresh* row starts each anew per round. Where verifying is not *warming* enough, every peer is
    measured once for nothing.
    """

    name: str
    title: str
    peers: tuple[str, ...]
    verify: Callable[[Job], None]
    measure: Callable[[Job], Figures]
    figures: Mapping[str, str]
    goals: tuple[Goal, ...] = ()
    fresh: bool = False
    warming: bool = False

    @property
    def ours(self) -> str:
        """Return the peer that the others are compared with."""
        return self.peers[0]


@dataclass(slots=True)
class Outcome:
    """What came of a row: the figures of every round by peer, and why peers are left out."""

    row: Row
    rounds: list[dict[str, Figures]] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def values(self, peer: str, figure: str) -> list[float]:
        """Return *figure* of *peer*, round by round."""
        return [seen[peer][figure] for seen in self.rounds if peer in seen]

    def middle(self, peer: str, figure: str) -> float | None:
        """Return the median of *figure*, or nothing if *peer* was not measured."""
        values = self.values(peer, figure)
        return median(values) if values else None

    def ratios(self, peer: str, figure: str) -> list[float]:
        """Return the gateway's figure by the peer's, each pair out of one round."""
        ours = self.row.ours
        return [
            seen[ours][figure] / seen[peer][figure]
            for seen in self.rounds
            if ours in seen and peer in seen and seen[peer][figure]
        ]

    def verdict(self, goal: Goal) -> bool | None:
        """Return whether *goal* holds, or nothing if it was not measured."""
        if goal.peer is None:
            middle = self.middle(self.row.ours, goal.figure)
            return None if middle is None else goal.holds(middle)
        ratios = self.ratios(goal.peer, goal.figure)
        return goal.holds(median(ratios)) if ratios else None
