"""Lookups of all kinds among ten thousand sessions, at a steady rate."""

import json
import queue
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import NamedTuple

from tests.benchmarks import verify
from tests.benchmarks.load import Broken
from tests.benchmarks.model import Figures, Goal, Job, Row
from tests.benchmarks.peers import KEY
from tests.benchmarks.peers.stored import SESSIONS, WORKSPACE, session
from tests.benchmarks.processes import Server
from tests.benchmarks.raw import Reader
from tests.benchmarks.watch import Waits

_PER_SECOND = 100
_CONNECTIONS = 32
_LONGER = 5  # than other rows: of each kind there is only every seventh request
_PAGE = 50
_P99_MS = 50
_NOTHING = "nothing"  # what a request takes here at this moment, without any store
_OURS = range(0, SESSIONS, 2)
_OTHERS = range(1, SESSIONS, 2)


class Lookup(NamedTuple):
    """A request, and the status that it has to be answered with."""

    kind: str
    path: str
    status: int = 200


_KINDS = {
    "get": "one session",
    "filter": "sessions with a label",
    "page": "a page of 50 sessions",
    "files": "20 entries of a session",
    "unknown": "an unknown session",
    "foreign": "another organisation's session",
    _NOTHING: "nothing (/livez)",
}


def lookups(cursors: list[str], seed: int) -> Iterator[Lookup]:
    """Yield requests of every kind in turn, each for something else."""
    rng = random.Random(seed)
    while True:
        yield Lookup("get", f"/v1/sessions/{session(rng.choice(_OURS)).id}")
        some = rng.choice((f"run={rng.choice(_OURS)}", f"tenth={rng.choice(_OURS) % 10}"))
        yield Lookup("filter", f"/v1/sessions?metadata.{some}")
        yield Lookup("page", f"/v1/sessions?limit={_PAGE}&cursor={rng.choice(cursors)}")
        yield Lookup("files", f"/api/v1/sessions/{session(rng.choice(_OURS)).id}/files")
        yield Lookup("unknown", f"/v1/sessions/sess_{rng.randrange(10**9)}", 404)
        yield Lookup("foreign", f"/v1/sessions/{session(rng.choice(_OTHERS)).id}", 403)
        yield Lookup(_NOTHING, "/livez")


def verify_lookups(job: Job) -> None:
    """Raise `Broken` unless each kind of lookup finds what there is, and all of it."""
    number = _OURS[17]
    wanted = session(number).id
    shown = _asked(job.server, f"/v1/sessions/{wanted}")
    labelled = _asked(job.server, f"/v1/sessions?metadata.run={number}")
    listed = _asked(job.server, f"/api/v1/sessions/{wanted}/files")
    newest_first = [session(n).id for n in reversed(_OURS)]
    if shown["id"] != wanted or [one["id"] for one in labelled["sessions"]] != [wanted]:
        raise Broken(f"{job.server.name} does not find a session")
    if listed["files"] != job.corpus.listing(WORKSPACE):
        raise Broken(f"{job.server.name} listed entries that are not those on disk")
    pages = list(_pages(job.server))
    if [one["id"] for page in pages for one in page["sessions"]] != newest_first:
        raise Broken(f"{job.server.name} lists other sessions than there are")


def measure_lookups(job: Job) -> Figures:
    """Return how long the lookups of each kind took, timed from when they were due."""
    cursors = [page["next_cursor"] for page in _pages(job.server) if page["next_cursor"]]
    waits = {kind: Waits() for kind in _KINDS}
    idle: queue.SimpleQueue[Reader] = queue.SimpleQueue()

    def ask(lookup: Lookup, due: float) -> None:
        reader = idle.get()
        waits[lookup.kind].ms.append(
            (reader.get(lookup.path, status=lookup.status).ended - due) * 1e3
        )
        idle.put(reader)

    asked = lookups(cursors, seed=len(cursors))
    with ExitStack() as connections, ThreadPoolExecutor(_CONNECTIONS) as pool:
        for _ in range(_CONNECTIONS):
            idle.put(connections.enter_context(Reader(job.server)))
        began = time.monotonic()
        asking = []
        for number in range(round(job.seconds * _LONGER * _PER_SECOND)):
            due = began + number / _PER_SECOND
            time.sleep(max(0.0, due - time.monotonic()))
            asking.append(pool.submit(ask, next(asked), due))
        for one in asking:
            one.result()
    return {
        f"{kind}_p{percent}_ms": waits[kind].percentile(percent / 100)
        for kind in _KINDS
        for percent in (50, 99)
    }


def _pages(server: Server) -> Iterator[dict]:
    cursor = ""
    while cursor is not None:
        page = _asked(server, f"/v1/sessions?limit={_PAGE}" + f"&cursor={cursor}" * bool(cursor))
        yield page
        cursor = page["next_cursor"]


def _asked(server: Server, path: str) -> dict:
    status, body = verify.get(server, path, KEY)
    if status != 200:
        raise Broken(f"{server.name} answered {status} to {path}: {body[:200]!r}")
    return json.loads(body)


def _row(store: str, peer: str) -> Row:
    return Row(
        name=f"lookups-{store.lower()}",
        title=f"10,000 sessions in {store}, 100 mixed lookups a second",
        peers=(peer,),
        verify=verify_lookups,
        measure=measure_lookups,
        figures={
            f"{kind}_p{percent}_ms": f"{what}, p{percent}, ms"
            for kind, what in _KINDS.items()
            for percent in (50, 99)
        },
        goals=tuple(Goal(f"{kind}_p99_ms", at_most=_P99_MS) for kind in _KINDS if kind != _NOTHING),
    )


LOOKUPS = (_row("SQLite", "gateway-sqlite"), _row("PostgreSQL", "gateway-postgres"))
