"""The rows of the table: what is asked of whom, and what the gateway shall reach."""

from tests.benchmarks.archives import ARCHIVES
from tests.benchmarks.corpus import MIB
from tests.benchmarks.lookups import LOOKUPS
from tests.benchmarks.measures import (
    FILES,
    LISTING,
    NEIGHBOURS,
    download,
    growth,
    neighbours,
    requests,
    slow,
    verify_file,
    verify_listing,
    walk,
    walk_again_and_again,
)
from tests.benchmarks.model import Goal, Row

# The answer to RECURSIVE is 11 MB: whoever holds it, or its entries, is over this.
_GROWTH_MB = 8
# "The same" as far as two runs of the same nginx are the same.
_WITHIN_NOISE = 0.95

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
        peers=("gateway", "go", "starlette", "starlette-threads"),
        verify=verify_listing("s20"),
        measure=requests(LISTING, connections=64, body=2000),
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
        verify=verify_file("1k.bin"),
        measure=requests(FILES + "1k.bin", connections=64, body=1 << 10),
        figures=_REQUESTS,
        goals=(Goal("rps", "go", at_least=0.4), Goal("rps", "fileresponse", at_least=3)),
    ),
    Row(
        name="file-1m",
        title="file of 1 MiB, 16 connections",
        peers=("gateway", "nginx", "go", "fileresponse"),
        verify=verify_file("1m.bin"),
        measure=requests(FILES + "1m.bin", connections=16, body=MIB),
        figures=_REQUESTS,
        goals=(Goal("rps", "nginx", at_least=0.6),),
    ),
    Row(
        name="file-100m",
        title="file of 100 MiB, one reader",
        peers=("gateway", "nginx", "go", "fileresponse"),
        verify=verify_file("100m.bin"),
        measure=download(1),
        figures=_DOWNLOAD,
        goals=(Goal("mb_s", "nginx", at_least=0.97),),
    ),
    Row(
        name="file-100m-8",
        title="file of 100 MiB, eight readers",
        peers=("gateway", "nginx", "go", "fileresponse"),
        verify=verify_file("100m.bin"),
        measure=download(8),
        figures=_DOWNLOAD,
        goals=(Goal("mb_s", "nginx", at_least=0.95), Goal("first_ms", "nginx", at_most=5)),
    ),
    Row(
        name="proxied-100m",
        title="file of 100 MiB through a gateway and a sidecar, one reader",
        peers=("gateway-proxied", "nginx-proxied", "go-proxied"),
        verify=verify_file("100m.bin"),
        measure=download(1),
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
        verify=verify_file("1k.bin"),
        measure=requests(FILES + "1k.bin", connections=4, body=1 << 10),
        figures={"p50_ms": "median, ms", **_REQUESTS, "cpu_us": "proxy's CPU per answer, µs"},
    ),
    Row(
        name="offload-100m",
        title="file of 100 MiB that nginx sends for the gateway, one reader",
        peers=("gateway-offload", "nginx", "gateway"),
        verify=verify_file("100m.bin"),
        measure=download(1),
        figures=_DOWNLOAD,
        goals=(Goal("mb_s", "nginx", at_least=_WITHIN_NOISE),),
    ),
    Row(
        name="offload-1m",
        title="file of 1 MiB that nginx sends for the gateway, 16 connections",
        peers=("gateway-offload", "nginx", "gateway"),
        verify=verify_file("1m.bin"),
        measure=requests(FILES + "1m.bin", connections=16, body=MIB),
        figures=_REQUESTS,
        goals=(Goal("rps", "nginx", at_least=_WITHIN_NOISE),),
    ),
    Row(
        name="slow-readers",
        title="64 slow readers of 100 MiB, fresh process",
        peers=("gateway", "nginx", "go", "fileresponse"),
        verify=verify_file("100m.bin"),
        measure=slow,
        figures={"each_mb": "memory for each, MB"},
        goals=(Goal("each_mb", at_most=0.1),),
        fresh=True,
    ),
    Row(
        name="proxied-slow-readers",
        title="64 slow readers of 100 MiB through a gateway and a sidecar, fresh process",
        # nginx would be another job: its defaults read ahead into a file on the disk.
        peers=("gateway-proxied", "go-proxied"),
        verify=verify_file("100m.bin"),
        measure=slow,
        figures={"each_mb": "proxy's memory for each, MB"},
        goals=(Goal("each_mb", at_most=0.7),),
        fresh=True,
    ),
    Row(
        name="walk",
        title="recursive listing of 100,000 files",
        peers=("gateway", "go"),
        verify=verify_listing("tree", recursive=True),
        measure=walk,
        figures={"total_ms": "total, ms", "first_ms": "first byte, ms"},
        # 1.1 times Go's speed is Go's time divided by 1.1.
        goals=(Goal("total_ms", "go", at_most=round(1 / 1.1, 3)), Goal("first_ms", at_most=10)),
    ),
    Row(
        name="walk-neighbours",
        title="small requests during recursive listings",
        peers=("gateway", "go"),
        verify=verify_listing("s20"),
        measure=neighbours(walk_again_and_again),
        figures=NEIGHBOURS,
        goals=(Goal("livez_p99_ms", at_most=5), Goal("listing_p99_ms", at_most=5)),
    ),
    Row(
        name="walk-memory",
        title="memory of recursive listings, fresh process",
        peers=("gateway", "go"),
        verify=verify_listing("s20"),
        measure=growth,
        figures={"growth_mb": "growth at the peak, MB", "before_mb": "before, MB"},
        goals=(Goal("growth_mb", at_most=_GROWTH_MB),),
        fresh=True,
    ),
    *ARCHIVES,
    *LOOKUPS,
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
