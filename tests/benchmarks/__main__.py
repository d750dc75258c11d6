"""`python -m tests.benchmarks`: measure, print the table, keep it under `.bench/`."""

import argparse
import fcntl
import fnmatch
import shutil
import signal
import sys
import time

from tests.benchmarks import corpus, table
from tests.benchmarks.about import about
from tests.benchmarks.model import Outcome
from tests.benchmarks.peers import REPOSITORY, Bench
from tests.benchmarks.rows import ROWS
from tests.benchmarks.run import run

HOME = REPOSITORY / ".bench"


def main() -> int:
    """Run what was asked for; the answer is 0 even when a goal is missed: it is no test."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    names = [row.name for row in ROWS]
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds (default 5)")
    parser.add_argument(
        "--seconds", type=float, default=4, metavar="S", help="length of one measurement"
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="ROWS",
        help=f"a name or a pattern, as 'archive-*', of: {', '.join(names)}",
    )
    parser.add_argument("--quick", action="store_true", help="two short rounds: does it work")
    parser.add_argument("--minutes", type=float, default=30, help="begin no row after this time")
    asked = parser.parse_args()
    for pattern in asked.only or ():
        if not fnmatch.filter(names, pattern):
            parser.error(f"no row is called {pattern!r}; there are {', '.join(names)}")
    # The servers are stopped on the way out, also when somebody ends the run.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    HOME.mkdir(exist_ok=True)
    with (HOME / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            parser.error("another run is under way; two at once would measure each other")
        return _measure(asked)


def _measure(asked: argparse.Namespace) -> int:
    rounds, seconds = (2, 1.0) if asked.quick else (asked.rounds, asked.seconds)
    # Only a whole run replaces the results.
    kept = HOME / ("partial" if asked.quick or asked.only else "results")
    _say("making the corpus, if it is not there yet")
    # A store that an older gateway left would decide whether the new one starts.
    for left in (HOME / "run").glob("gateway*"):
        shutil.rmtree(left)
    bench = Bench(HOME, corpus.make(HOME))
    circumstances = about(rounds, seconds, quick=asked.quick)
    outcomes: list[Outcome] = []
    deadline = time.monotonic() + asked.minutes * 60
    for row in ROWS:
        if asked.only and not any(fnmatch.fnmatch(row.name, only) for only in asked.only):
            continue
        if time.monotonic() > deadline:
            _say(f"{row.name}: not begun, the {asked.minutes:g} minutes are over")
            continue
        outcomes.append(run(row, bench, rounds=rounds, seconds=seconds, say=_say))
        # Kept after each row: an hour's work must not hang on the last one.
        report = table.markdown(outcomes, circumstances)
        kept.with_suffix(".md").write_text(report)
        kept.with_suffix(".json").write_text(table.as_json(outcomes, circumstances))
    print(report)
    _say(f"kept in {kept}.md and {kept}.json")
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
