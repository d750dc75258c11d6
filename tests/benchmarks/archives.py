"""The rows about archives: how fast they are made, how small, and what they cost others."""

import time
from collections.abc import Callable, Sequence

from tests.benchmarks import verify, workspaces
from tests.benchmarks.measures import FILES, NEIGHBOURS, Measure, download, neighbours
from tests.benchmarks.model import Figures, Goal, Job, Row
from tests.benchmarks.processes import Server
from tests.benchmarks.raw import Read, read_at_once, read_slowly, took
from tests.benchmarks.watch import remembering
from tests.benchmarks.workspaces import BIG, MIXED, PARTS, QUARTER, SOURCES

_ZIP, _STORED, _TAR_GZ = "format=zip", "format=zip&stored=true", "format=tar.gz"
_GATEWAY, _GO = "gateway-archives", "go"
# These ask for no key.
_OPEN = {"zipstream-ng", "zip-1", "zip-6", "tar-igzip", "tar-pigz", "copyparty", "nginx"}
# So slow that a workspace of the same kind with a quarter of the files must do.
_PATIENT = {"zipstream-ng", "zip-1", "tar-pigz", "copyparty"}
_SLOW = 32
# The session with the large file: its archive is as long as the file that nginx sends.
_ONE_FILE = "files"


def _path(server: Server, session: str, query: str) -> str:
    if server.name == "copyparty":
        return f"/{session}?tar=gz:1"
    return f"/api/v1/sessions/{session}/archive?{query}"


def _given(server: Server, sessions: Sequence[str]) -> Sequence[str]:
    less = {MIXED[0]: QUARTER} if server.name in _PATIENT else {}
    return [less.get(session, session) for session in sessions]


def _make(job: Job, sessions: Sequence[str], query: str) -> list[Read]:
    """Ask for one archive of each session at once; none of them was made before."""
    for session in sessions:
        workspaces.renew(job.corpus, session)
    return read_at_once(job.server, [_path(job.server, session, query) for session in sessions])


def _verified(session: str, query: str) -> Callable[[Job], None]:
    def verified(job: Job) -> None:
        workspaces.make(job.corpus)
        locked = job.server.name not in _OPEN
        for given in _given(job.server, [session]):
            path = _path(job.server, given, query)
            verify.archive(job.server, job.corpus, given, path, authenticated=locked)

    return verified


def _making(sessions: Sequence[str], query: str) -> Measure:
    def measure(job: Job) -> Figures:
        given = _given(job.server, sessions)
        megabytes = sum(workspaces.size(job.corpus, session) for session in given) / 1e6
        cpu = job.server.cpu_s()
        reads = _make(job, given, query)
        return {
            "mb_s": megabytes / took(reads),
            "size_percent": sum(read.bytes for read in reads) / 1e4 / megabytes,
            "first_ms": max(read.first_byte_ms for read in reads),
            "cpu_s": (job.server.cpu_s() - cpu) / megabytes * 1e3,
        }

    return measure


def _again(server: Server) -> str:
    return FILES + "100m.bin" if server.name == "nginx" else _path(server, _ONE_FILE, _ZIP)


def _verify_again(job: Job) -> None:
    if job.server.name == "nginx":
        verify.file(job.server, job.corpus, "100m.bin", authenticated=False)
    else:
        _verified(_ONE_FILE, _ZIP)(job)


def _memory(job: Job) -> Figures:
    with remembering(job.server.pss_bytes) as memory:
        _make(job, [BIG], _ZIP)
    return {"peak_mb": memory.peak / 1e6, "before_mb": memory.before / 1e6}


def _slow(job: Job) -> Figures:
    _make(job, SOURCES, _ZIP)
    parts = [_path(job.server, MIXED[0], f"{_ZIP}&path={part}") for part in PARTS]
    with remembering(job.server.pss_bytes) as memory:
        read_slowly(job.server, parts * (_SLOW // len(parts)), job.seconds)
    return {"each_mb": memory.growth_mb / _SLOW, "peak_mb": memory.peak / 1e6}


def _busy(job: Job) -> None:
    deadline = time.monotonic() + job.seconds / 2
    while True:
        _make(job, SOURCES, _ZIP)
        if time.monotonic() > deadline:
            return


_MAKING = {
    "mb_s": "MB/s of files",
    "size_percent": "size, % of files",
    "first_ms": "first byte, ms",
    "cpu_s": "CPU per GB of files, s",
}
_AT_ONCE = {
    **_MAKING,
    "first_ms": "first byte, slowest reader, ms",
}
_SMALL_ENOUGH = Goal("size_percent", _GO, at_most=1.02)
_SOON_ENOUGH = Goal("first_ms", at_most=50)


def _row(
    name: str,
    title: str,
    sessions: Sequence[str],
    query: str,
    faster: dict[str, float],
    *goals: Goal,
    also: tuple[str, ...] = (),
) -> Row:
    """Return a row about making archives, so many times *faster* than each of those peers."""
    return Row(
        name=name,
        title=title,
        peers=(_GATEWAY, *faster, *also),
        verify=_verified(sessions[0], query),
        measure=_making(sessions, query),
        figures=_MAKING if len(sessions) == 1 else _AT_ONCE,
        goals=(*(Goal("mb_s", peer, at_least=times) for peer, times in faster.items()), *goals),
        warming=True,
    )


ARCHIVES: tuple[Row, ...] = (
    _row(
        "archive-zip-source",
        "zip of 20,000 small source files, 100 MB",
        SOURCES[:1],
        _ZIP,
        {_GO: 3, "zipstream-ng": 5},
        _SMALL_ENOUGH,
        _SOON_ENOUGH,
        also=("zip-1", "zip-6"),
    ),
    _row(
        "archive-zip-mixed",
        "zip of 2,000 files, 600 MB, half incompressible",
        MIXED[:1],
        _ZIP,
        {_GO: 3, "zipstream-ng": 8, "zip-1": 8},
        _SMALL_ENOUGH,
        _SOON_ENOUGH,
    ),
    _row(
        "archive-zip-big",
        "zip of 16 large files, 1 GB, half incompressible",
        [BIG],
        _ZIP,
        {_GO: 3},
        _SMALL_ENOUGH,
        _SOON_ENOUGH,
    ),
    _row(
        "archive-zip-source-4",
        "four zips at once, each of 20,000 small source files, 100 MB",
        SOURCES,
        _ZIP,
        {_GO: 1.8},
    ),
    _row(
        "archive-zip-mixed-4",
        "four zips at once, each of 2,000 files, 600 MB",
        MIXED,
        _ZIP,
        {_GO: 1.5},
    ),
    _row(
        "archive-zip-stored",
        "zip without compression of 2,000 files, 600 MB",
        MIXED[:1],
        _STORED,
        {_GO: 1},
        _SOON_ENOUGH,
    ),
    _row(
        "archive-tar-gz",
        "tar.gz of 2,000 files, 600 MB, half incompressible",
        MIXED[:1],
        _TAR_GZ,
        {_GO: 3, "copyparty": 4, "tar-igzip": 1.1},
        _SOON_ENOUGH,
        also=("tar-pigz",),
    ),
    Row(
        name="archive-again",
        title="the same archive once more, 101 MiB; nginx: a file of 100 MiB",
        peers=(_GATEWAY, "nginx"),
        verify=_verify_again,
        measure=download(1, _again),
        figures={
            "mb_s": "MB/s of what is sent",
            "first_ms": "first byte, ms",
            "cpu_ms": "server CPU, ms",
        },
        goals=(Goal("mb_s", "nginx", at_least=0.97), _SOON_ENOUGH),
    ),
    Row(
        name="archive-memory",
        title="memory while a zip of 1 GB is made, fresh process",
        peers=(_GATEWAY, _GO),
        verify=_verified(BIG, _ZIP),
        measure=_memory,
        figures={"peak_mb": "in all at the peak, MB", "before_mb": "in all before, MB"},
        goals=(Goal("peak_mb", at_most=250),),
        fresh=True,
    ),
    Row(
        name="archive-slow-readers",
        title="32 slow readers of 16 zips, fresh process",
        peers=(_GATEWAY, _GO),
        verify=_verified(MIXED[0], _ZIP),
        measure=_slow,
        figures={"each_mb": "memory for each, MB", "peak_mb": "in all at the peak, MB"},
        goals=(Goal("each_mb", at_most=2),),
        fresh=True,
    ),
    Row(
        name="archive-neighbours",
        title="small requests while four zips at once are made",
        peers=(_GATEWAY, _GO),
        verify=_verified(SOURCES[0], _ZIP),
        measure=neighbours(_busy),
        figures=NEIGHBOURS,
        goals=(Goal("livez_p99_ms", at_most=10), Goal("listing_p99_ms", at_most=10)),
        warming=True,
    ),
)
