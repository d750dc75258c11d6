"""The peers that only archives are asked of, and the gateway with a place to keep them."""

import contextlib
import functools
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator

from tests.benchmarks.peers import HERE, Bench, Peer, gateway_with, local, require
from tests.benchmarks.processes import HOST, Missing, Server, serving
from tests.ports import free_port

# More than the rows have under way, and room for what one of them makes.
_AT_ONCE, _SPOOL_BYTES = 64, 3 << 30
_IN_MEMORY = "/dev/shm"


@contextlib.contextmanager
def gateway_archives(bench: Bench) -> Iterator[Server]:
    """Serve with a gateway whose spool is empty at first, and in memory where that can be."""
    # What the kernel writes to the disk meanwhile would be counted for whoever runs next.
    place = _IN_MEMORY if os.path.isdir(_IN_MEMORY) else bench.home
    if place == _IN_MEMORY:
        _touch_memory()
    with tempfile.TemporaryDirectory(prefix="gateway-bench-", dir=place) as spool:
        keeping = f"spool: {{dir: {spool}, bytes: {_SPOOL_BYTES}}}\n"
        limits = f"archives_at_once: {_AT_ONCE}"
        sections = local(bench) + keeping
        with gateway_with(bench, "gateway-archives", sections, limits=limits) as server:
            yield server


@functools.cache
def _touch_memory() -> None:
    """Have what the spool needs from a virtual machine's host, which is slower than to fill it.

    A gateway that has run for a while has it; what the host needs is not to be measured.
    """
    piece = bytes(1 << 20)
    room = shutil.disk_usage(_IN_MEMORY).free
    with tempfile.TemporaryFile(dir=_IN_MEMORY) as file:
        for _ in range(min(_SPOOL_BYTES, room) // len(piece)):
            file.write(piece)


@contextlib.contextmanager
def copyparty(bench: Bench) -> Iterator[Server]:
    """Serve with copyparty, which may read everything and write nothing."""
    require("copyparty")
    port = free_port()
    command = [sys.executable, "-m", "copyparty", "-i", HOST, "-p", str(port), "-q"]
    command += ["-v", f"{bench.corpus.root}::r", "--no-thumb"]
    home = bench.directory("copyparty")
    env = {"HOME": str(home), "XDG_CONFIG_HOME": str(home)}
    log, ready = bench.log("copyparty"), "/?ls"
    with serving(
        "copyparty", command, port=port, log=log, ready=ready, cwd=home, env=env
    ) as server:
        yield server


def archiver(name: str, *programs: str) -> Peer:
    """Return the peer *name* of `archivers_app`, which starts *programs*."""

    @contextlib.contextmanager
    def peer(bench: Bench) -> Iterator[Server]:
        for program in programs:
            if shutil.which(program) is None:
                raise Missing(f"{program} is not here: apt-get install zip pigz isal")
        port = free_port()
        command = [sys.executable, str(HERE / "archivers_app.py"), str(port)]
        command += [str(bench.corpus.root), name]
        with serving(name, command, port=port, log=bench.log(name)) as server:
            yield server

    return peer


@contextlib.contextmanager
def zipstream_ng(bench: Bench) -> Iterator[Server]:
    """Serve with the library zipstream-ng."""
    require("zipstream")
    with archiver("zipstream-ng")(bench) as server:
        yield server


ARCHIVERS: dict[str, Peer] = {
    "gateway-archives": gateway_archives,
    "copyparty": copyparty,
    "zipstream-ng": zipstream_ng,
    "zip-1": archiver("zip-1", "zip"),
    "zip-6": archiver("zip-6", "zip"),
    "tar-igzip": archiver("tar-igzip", "tar", "igzip"),
    "tar-pigz": archiver("tar-pigz", "tar", "pigz"),
}
