"""How a job is verified and measured: each function returns what a row then calls."""

import time
from collections.abc import Callable
from statistics import median

from tests.benchmarks import verify
from tests.benchmarks.load import wrk
from tests.benchmarks.model import Figures, Job
from tests.benchmarks.processes import Server
from tests.benchmarks.raw import Reader, read_at_once, read_slowly, took
from tests.benchmarks.watch import probing, remembering

LISTING = "/api/v1/sessions/s20/files"
RECURSIVE = "/api/v1/sessions/tree/files?recursive=true"
FILES = "/api/v1/sessions/files/files/"
# These serve files as they are; everyone else asks for the key first.
_OPEN = {"nginx", "nginx-proxied", "nginx-unix", "fileresponse"}
_SLOW = 64

Measure = Callable[[Job], Figures]


def verify_file(name: str) -> Callable[[Job], None]:
    """Return what checks a download."""

    def verified(job: Job) -> None:
        verify.file(job.server, job.corpus, name, authenticated=job.server.name not in _OPEN)

    return verified


def verify_listing(session: str, *, recursive: bool = False) -> Callable[[Job], None]:
    """Return what checks a listing."""
    return lambda job: verify.listing(job.server, job.corpus, session, recursive=recursive)


def requests(path: str, connections: int, body: int) -> Measure:
    """Return what counts the answers of *body* bytes or more that many connections get."""

    def measure(job: Job) -> Figures:
        cpu = job.server.cpu_s()
        load = wrk(job.server, path, connections=connections, seconds=job.seconds, body=body)
        return {
            "rps": load.per_second,
            "p50_ms": load.p50_ms,
            "p99_ms": load.p99_ms,
            "cpu_us": (job.server.cpu_s() - cpu) / load.requests * 1e6,
        }

    return measure


def _large_file(_: Server) -> str:
    return FILES + "100m.bin"


def download(readers: int, path: Callable[[Server], str] = _large_file) -> Measure:
    """Return what times *readers* that ask for the same in the same moment, several times."""

    def measure(job: Job) -> Figures:
        cpu = job.server.cpu_s()
        rates: list[float] = []
        slowest: list[float] = []
        middle: list[float] = []
        deadline = time.monotonic() + job.seconds
        while len(rates) < 3 or time.monotonic() < deadline:
            # Discarded by the kernel: else eight copying readers would take half of the machine.
            reads = read_at_once(job.server, [path(job.server)] * readers, discard=True)
            rates.append(sum(read.bytes for read in reads) / 1e6 / took(reads))
            slowest.append(max(read.first_byte_ms for read in reads))
            middle.append(median(read.first_byte_ms for read in reads))
        return {
            "mb_s": median(rates),
            "first_ms": median(slowest),
            "first_middle_ms": median(middle),
            "cpu_ms": (job.server.cpu_s() - cpu) / (len(rates) * readers) * 1e3,
        }

    return measure


def slow(job: Job) -> Figures:
    """Return what memory a slow reader of a large file costs."""
    path = _large_file(job.server)
    read_at_once(job.server, [path] * 2, times=4)
    with remembering(job.server.rss_bytes) as memory:
        read_slowly(job.server, [path] * _SLOW, job.seconds)
    return {"each_mb": memory.growth_mb / _SLOW}


def walk(job: Job) -> Figures:
    """Return how long a long listing takes."""
    with Reader(job.server) as reader:
        reads = [reader.get(RECURSIVE) for _ in range(max(1, round(job.seconds / 2)))]
    return {
        "total_ms": median(read.total_ms for read in reads),
        "first_ms": median(read.first_byte_ms for read in reads),
    }


def walk_again_and_again(job: Job) -> None:
    """Keep the server busy with long listings."""
    with Reader(job.server) as reader:
        for _ in range(max(2, round(job.seconds / 2))):
            reader.get(RECURSIVE)


NEIGHBOURS = {
    "livez_p99_ms": "/livez p99, ms",
    "livez_p50_ms": "/livez p50, ms",
    "listing_p99_ms": "20 entries p99, ms",
    "listing_p50_ms": "20 entries p50, ms",
}


def neighbours(work: Callable[[Job], None]) -> Measure:
    """Return what times small requests while *work* keeps the server busy."""

    def measure(job: Job) -> Figures:
        figures = {}
        for figure, path in (("livez", "/livez"), ("listing", LISTING)):
            with probing(job.server, path) as waits:
                work(job)
            figures[f"{figure}_p50_ms"] = waits.percentile(0.5)
            figures[f"{figure}_p99_ms"] = waits.percentile(0.99)
        return figures

    return measure


def growth(job: Job) -> Figures:
    """Return what memory long listings cost."""
    for path in (LISTING, LISTING + "?recursive=true"):
        read_at_once(job.server, [path] * 8, times=25)
    with Reader(job.server) as reader, remembering(job.server.rss_bytes) as memory:
        for _ in range(3):
            reader.get(RECURSIVE)
    return {"growth_mb": memory.growth_mb, "before_mb": memory.before / 1e6}
