"""The rows of the table: what is asked of whom, and what the gateway shall reach."""

import time
from collections.abc import Callable
from statistics import median

from tests.benchmarks import verify
from tests.benchmarks.corpus import MIB
from tests.benchmarks.load import wrk
from tests.benchmarks.model import Figures, Goal, Job, Row
from tests.benchmarks.raw import Reader, read_at_once, read_slowly
from tests.benchmarks.watch import probing, remembering

LISTING = "/api/v1/sessions/s20/files"
RECURSIVE = "/api/v1/sessions/tree/files?recursive=true"
FILES = "/api/v1/sessions/files/files/"
# These serve files as they are; everyone else asks for the key first.
_OPEN = {"nginx", "nginx-proxied", "nginx-unix", "fileresponse"}
_BIG = 100 * MIB
# The answer to RECURSIVE is 11 MB: whoever holds it, or its entries, is over this.
_GROWTH_MB = 8
_SLOW = 64
# "The same" as far as two runs of the same nginx are the same.
_WITHIN_NOISE = 0.95


def _verify_file(name: str) -> Callable[[Job], None]:
    def verified(job: Job) -> None:
        verify.file(job.server, job.corpus, name, authenticated=job.server.name not in _OPEN)

    return verified


def _verify_listing(session: str, *, recursive: bool = False) -> Callable[[Job], None]:
    return lambda job: verify.listing(job.server, job.corpus, session, recursive=recursive)


def _requests(path: str, connections: int, body: int) -> Callable[[Job], Figures]:
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


def _download(readers: int) -> Callable[[Job], Figures]:
    def measure(job: Job) -> Figures:
        cpu = job.server.cpu_s()
        rates: list[float] = []
        slowest: list[float] = []
        middle: list[float] = []
        deadline = time.monotonic() + job.seconds
        while len(rates) < 3 or time.monotonic() < deadline:
            # Discarded by the kernel: else eight copying readers would take half of the machine.
            reads = read_at_once(job.server, FILES + "100m.bin", readers, discard=True)
            took = max(read.ended for read in reads) - min(read.began for read in reads)
            rates.append(readers * _BIG / 1e6 / took)
            slowest.append(max(read.first_byte_ms for read in reads))
            middle.append(median(read.first_byte_ms for read in reads))
        return {
            "mb_s": median(rates),
            "first_ms": median(slowest),
            "first_middle_ms": median(middle),
            "cpu_ms": (job.server.cpu_s() - cpu) / (len(rates) * readers) * 1e3,
        }

    return measure


def _slow(job: Job) -> Figures:
    read_at_once(job.server, FILES + "100m.bin", 2, times=4)
    with remembering(job.server) as memory:
        read_slowly(job.server, FILES + "100m.bin", _SLOW, job.seconds)
    return {"each_mb": memory.growth_mb / _SLOW}


def _walk(job: Job) -> Figures:
    with Reader(job.server) as reader:
        reads = [reader.get(RECURSIVE) for _ in range(max(1, round(job.seconds / 2)))]
    return {
        "total_ms": median(read.total_ms for read in reads),
        "first_ms": median(read.first_byte_ms for read in reads),
    }


def _neighbours(job: Job) -> Figures:
    figures = {}
    for figure, path in (("livez", "/livez"), ("listing", LISTING)):
        with Reader(job.server) as reader, probing(job.server, path) as waits:
            for _ in range(max(2, round(job.seconds / 2))):
                reader.get(RECURSIVE)
        figures[f"{figure}_p50_ms"] = waits.percentile(0.5)
        figures[f"{figure}_p99_ms"] = waits.percentile(0.99)
    return figures


def _growth(job: Job) -> Figures:
    for path in (LISTING, LISTING + "?recursive=true"):
        read_at_once(job.server, path, 8, times=25)
    with Reader(job.server) as reader, remembering(job.server) as memory:
        for _ in range(3):
            reader.get(RECURSIVE)
    return {"growth_mb": memory.growth_mb, "before_mb": memory.before / 1e6}


_REQUESTS = {"rps": "requests/s", "p99_ms": "p99, ms", "cpu_us": "server CPU per answer, µs"}
_DOWNLOAD = {
    "mb_s": "MB/s",
    "first_ms": "first byte, slowest reader, ms",
    "first_middle_ms": "first byte, median reader, ms",
    "cpu_ms": "server CPU per file, ms",
}
_PROXIED = {**_DOWNLOAD, "cpu_ms": "proxy's CPU per file, ms"}

ROWS: tuple[Row, ...] = (
    Row(
        name="json",
        title="JSON: listing of 20 entries, 64 connections",
        peers=("gateway", "go", "starlette"),
        verify=_verify_listing("s20"),
        measure=_requests(LISTING, connections=64, body=2000),
        figures=_REQUESTS,
        goals=(
            Goal("rps", "go", at_least=0.8),
            Goal("p99_ms", "go", at_most=1.0),
            Goal("rps", "starlette", at_least=1.7),
        ),
    ),
    Row(
        name="file-1k",
        title="file of 1 KiB, 64 connections",
        peers=("gateway", "go", "fileresponse", "nginx", "starlette"),
        verify=_verify_file("1k.bin"),
        measure=_requests(FILES + "1k.bin", connections=64, body=1 << 10),
        figures=_REQUESTS,
        goals=(Goal("rps", "go", at_least=0.4), Goal("rps", "fileresponse", at_least=3)),
    ),
    Row(
        name="file-1m",
        title="file of 1 MiB, 16 connections",
        peers=("gateway", "nginx", "go", "fileresponse"),
        verify=_verify_file("1m.bin"),
        measure=_requests(FILES + "1m.bin", connections=16, body=MIB),
        figures=_REQUESTS,
        goals=(Goal("rps", "nginx", at_least=0.6),),
    ),
    Row(
        name="file-100m",
        title="file of 100 MiB, one reader",
        peers=("gateway", "nginx", "go", "fileresponse"),
        verify=_verify_file("100m.bin"),
        measure=_download(1),
        figures=_DOWNLOAD,
        goals=(Goal("mb_s", "nginx", at_least=0.97),),
    ),
    Row(
        name="file-100m-8",
        title="file of 100 MiB, eight readers",
        peers=("gateway", "nginx", "go", "fileresponse"),
        verify=_verify_file("100m.bin"),
        measure=_download(8),
        figures=_DOWNLOAD,
        goals=(Goal("mb_s", "nginx", at_least=0.95), Goal("first_ms", "nginx", at_most=5)),
    ),
    Row(
        name="proxied-100m",
        title="file of 100 MiB through a gateway and a sidecar, one reader",
        peers=("gateway-proxied", "nginx-proxied", "go-proxied"),
        verify=_verify_file("100m.bin"),
        measure=_download(1),
        figures=_PROXIED,
        goals=(
            Goal("mb_s", "nginx-proxied", at_least=1.0),
            Goal("cpu_ms", "nginx-proxied", at_most=0.6),
        ),
    ),
    Row(
        name="proxied-1k",
        title="file of 1 KiB through a gateway and a sidecar's unix socket, 4 connections",
        peers=("gateway-unix", "gateway", "nginx-unix", "nginx", "go-proxied"),
        verify=_verify_file("1k.bin"),
        measure=_requests(FILES + "1k.bin", connections=4, body=1 << 10),
        figures={"p50_ms": "median, ms", **_REQUESTS, "cpu_us": "proxy's CPU per answer, µs"},
    ),
    Row(
        name="offload-100m",
        title="file of 100 MiB that nginx sends for the gateway, one reader",
        peers=("gateway-offload", "nginx", "gateway"),
        verify=_verify_file("100m.bin"),
        measure=_download(1),
        figures=_DOWNLOAD,
        goals=(Goal("mb_s", "nginx", at_least=_WITHIN_NOISE),),
    ),
    Row(
        name="offload-1m",
        title="file of 1 MiB that nginx sends for the gateway, 16 connections",
        peers=("gateway-offload", "nginx", "gateway"),
        verify=_verify_file("1m.bin"),
        measure=_requests(FILES + "1m.bin", connections=16, body=MIB),
        figures=_REQUESTS,
        goals=(Goal("rps", "nginx", at_least=_WITHIN_NOISE),),
    ),
    Row(
        name="slow-readers",
        title="64 slow readers of 100 MiB, fresh process",
        peers=("gateway", "nginx", "go", "fileresponse"),
        verify=_verify_file("100m.bin"),
        measure=_slow,
        figures={"each_mb": "memory for each, MB"},
        goals=(Goal("each_mb", at_most=0.1),),
        fresh=True,
    ),
    Row(
        name="proxied-slow-readers",
        title="64 slow readers of 100 MiB through a gateway and a sidecar, fresh process",
        # nginx would be another job: its defaults read ahead into a file on the disk.
        peers=("gateway-proxied", "go-proxied"),
        verify=_verify_file("100m.bin"),
        measure=_slow,
        figures={"each_mb": "proxy's memory for each, MB"},
        goals=(Goal("each_mb", at_most=0.7),),
        fresh=True,
    ),
    Row(
        name="walk",
        title="recursive listing of 100,000 files",
        peers=("gateway", "go"),
        verify=_verify_listing("tree", recursive=True),
        measure=_walk,
        figures={"total_ms": "total, ms", "first_ms": "first byte, ms"},
        # 1.1 times Go's speed is Go's time divided by 1.1.
        goals=(Goal("total_ms", "go", at_most=round(1 / 1.1, 3)), Goal("first_ms", at_most=10)),
    ),
    Row(
        name="walk-neighbours",
        title="small requests during recursive listings",
        peers=("gateway", "go"),
        verify=_verify_listing("s20"),
        measure=_neighbours,
        figures={
            "livez_p99_ms": "/livez p99, ms",
            "livez_p50_ms": "/livez p50, ms",
            "listing_p99_ms": "20 entries p99, ms",
            "listing_p50_ms": "20 entries p50, ms",
        },
        goals=(Goal("livez_p99_ms", at_most=5), Goal("listing_p99_ms", at_most=5)),
    ),
    Row(
        name="walk-memory",
        title="memory of recursive listings, fresh process",
        peers=("gateway", "go"),
        verify=_verify_listing("s20"),
        measure=_growth,
        figures={"growth_mb": "growth at the peak, MB", "before_mb": "before, MB"},
        goals=(Goal("growth_mb", at_most=_GROWTH_MB),),
        fresh=True,
    ),
    Row(
        name="start",
        title="start to ready",
        peers=("gateway", "go", "starlette", "fileresponse", "nginx"),
        verify=lambda _: None,
        measure=lambda job: {"ready_s": job.server.ready_after_s},
        figures={"ready_s": "seconds"},
        goals=(Goal("ready_s", at_most=1.0),),
        fresh=True,
    ),
)
