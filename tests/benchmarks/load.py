"""Load from wrk: many keep-alive connections, each asking for the same thing again and again."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.peers import KEY
from tests.benchmarks.processes import Missing, Server

_THREADS = 2
_SCRIPT = Path(__file__).parent / "wrk.lua"


class Broken(Exception):
    """A peer answered wrongly or incompletely, so its speed means nothing."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk saw."""

    requests: int
    bytes: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        """Return the answers a second."""
        return self.requests / self.seconds


def wrk(server: Server, path: str, *, connections: int, seconds: float, body: int) -> Load:
    """Return what wrk measured; raise `Broken` if an answer failed or lacked bytes of *body*."""
    if shutil.which("wrk") is None:
        raise Missing("wrk is not here: apt-get install wrk")
    whole = max(1, round(seconds))
    command = ["wrk", f"-t{_THREADS}", f"-c{connections}", f"-d{whole}s", "--timeout", "10s"]
    command += ["-s", str(_SCRIPT), "-H", f"X-API-Key: {KEY}", server.url + path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=whole + 30, check=False)
    if done.returncode != 0:
        raise Broken(f"wrk against {server.name}: {done.stderr.strip()[-200:]}")
    seen = json.loads(done.stdout.strip().splitlines()[-1])
    if seen["errors"] or not seen["requests"]:
        raise Broken(f"{server.name} answered {seen['requests']} times, {seen['errors']} wrongly")
    if seen["bytes"] < seen["requests"] * body:
        raise Broken(f"{server.name} sent {seen['bytes']} bytes in {seen['requests']} answers")
    return Load(
        requests=seen["requests"],
        bytes=seen["bytes"],
        seconds=seen["duration_us"] / 1e6,
        p50_ms=seen["p50_us"] / 1e3,
        p99_ms=seen["p99_us"] / 1e3,
    )
