"""The table of a run: ratios, goals and whether they hold, for people and for programs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from tests.benchmarks.model import Goal, Outcome

NOTES = (
    "The gateway runs as shipped: by its command, with authentication and one log line a request. "
    "nginx and aiohttp serve static files without either, uvicorn does not log: "
    "their own published tuning.",
    "`starlette` reads directories in its event loop, where one on a slow disk holds up everybody; "
    "`starlette-threads` has its threads do it. The gateway does what is cached in the loop, and "
    "the rest in threads.",
    "In a proxied job only the processes of the proxy count, not those of the server behind it. "
    "`nginx-proxied` is nginx' `proxy_pass` as it is by default before another nginx, `nginx-unix` "
    "one that keeps its connections to an nginx on a unix socket, `go-proxied` is "
    "httputil.ReverseProxy before a Go file server. The gateway asks a sidecar, and could fall "
    "back on an executor that has no files: that would be seen.",
    "Where nginx sends for the gateway, both count: nginx with the configuration of `deploy/`, and "
    "the gateway that checks every request and hands the file over.",
    "Archives are read from a socket by the same reader, whoever makes them: servers are asked "
    "over HTTP, programs write to the client's socket themselves. MB/s counts the bytes of the "
    "files, not of the archive. All compress at level 1, but zip-6. Before every archive a file of "
    "its workspace is written anew, so the gateway makes it each time, and keeps it, in memory: "
    "no disk is measured, and that memory has been used before. Only the row that asks once more "
    "is sent what was kept.",
    "zipstream-ng, zip-1, copyparty and tar-pigz are so slow that they get a workspace of the same "
    "kind as the others' 600 MB, with a quarter of the files: hence size in percent.",
    "Lookups come at their times, whether or not those before them are answered, and are timed "
    "from then. Half of the sessions belong to the caller's organisation; the database is on this "
    "machine.",
    "The memory of archives is that of all processes together, pages that they share counted once "
    "(Pss).",
    "A ratio is gateway / peer, taken inside each round; the table has its median and range. "
    "Figures that count time or memory are better when smaller.",
    "Every answer was checked against the disk (listings entry by entry, files by "
    "SHA-256, archives member by member as Python's zipfile and tarfile read them) before it was "
    "timed, and every timed answer for its status and its end.",
    "Server and client share the machine's cores, so figures by themselves mean little.",
)
_HEAD = ("job", "figure", "gateway", "peer", "peer's", "ratio (range)", "goal", "holds")
_HOLDS = {True: "yes", False: "**no**", None: "not measured"}


def markdown(outcomes: Sequence[Outcome], about: Mapping[str, str]) -> str:
    """Return the whole report."""
    cells = [_HEAD, tuple("---" for _ in _HEAD)]
    cells += [line for outcome in outcomes for line in _lines(outcome)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEAD))]
    table = [
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in cells
    ]
    left_out = [
        f"* `{outcome.row.name}`: {name} is left out: {reason}"
        for outcome in outcomes
        for name, reason in outcome.left_out.items()
    ]
    parts = ["# Benchmarks", "\n".join(table)]
    if left_out:
        parts += ["Left out:", "\n".join(left_out)]
    parts += ["Notes:", "\n".join(f"* {note}" for note in NOTES)]
    parts.append("\n".join(f"* {name}: {value}" for name, value in about.items()))
    return "\n\n".join(parts) + "\n"


def as_json(outcomes: Sequence[Outcome], about: Mapping[str, str]) -> str:
    """Return every figure of every round."""
    rows = [
        {
            "name": outcome.row.name,
            "title": outcome.row.title,
            "rounds": outcome.rounds,
            "left_out": outcome.left_out,
            "goals": [
                {
                    "figure": goal.figure,
                    "peer": goal.peer,
                    "goal": str(goal),
                    "holds": outcome.verdict(goal),
                }
                for goal in outcome.row.goals
            ],
        }
        for outcome in outcomes
    ]
    return json.dumps({"about": about, "rows": rows}, indent=1, ensure_ascii=False) + "\n"


def _lines(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    row = outcome.row
    for figure, label in row.figures.items():
        own = _number(outcome.middle(row.ours, figure))
        alone = [goal for goal in row.goals if goal.figure == figure and goal.peer is None]
        if len(row.peers) == 1 and not alone:
            yield (row.title, label, own, "-", "-", "-", "-", "-")
        for each in alone:
            holds = _HOLDS[outcome.verdict(each)]
            yield (row.title, label, own, "-", "-", "-", str(each), holds)
        for peer in row.peers[1:]:
            goal = _goal(row.goals, figure, peer)
            yield (
                row.title,
                label,
                own,
                peer,
                _number(outcome.middle(peer, figure)),
                _ratio(outcome.ratios(peer, figure)),
                "-" if goal is None else str(goal),
                "-" if goal is None else _HOLDS[outcome.verdict(goal)],
            )


def _goal(goals: Sequence[Goal], figure: str, peer: str) -> Goal | None:
    return next((goal for goal in goals if (goal.figure, goal.peer) == (figure, peer)), None)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _ratio(ratios: Sequence[float]) -> str:
    if not ratios:
        return "-"
    return f"{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
