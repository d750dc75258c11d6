"""What a result must carry so that somebody else can judge it: machine, versions, settings."""

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from tests.benchmarks.peers import REPOSITORY, go_program
from tests.benchmarks.processes import Missing


def about(rounds: int, seconds: float, *, quick: bool) -> dict[str, str]:
    """Return the circumstances of a run that begins now."""
    packages = (
        *("aiohttp", "asyncpg", "isal", "orjson", "uvloop"),
        *("copyparty", "starlette", "uvicorn", "zipstream-ng", "zlib-ng"),
    )
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "settings": f"{rounds} rounds, {seconds:g} s each"
        + " (quick: shows that the harness works, is no measurement)" * quick,
        "commit": _said(["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"]),
        "machine": f"{os.cpu_count()} x {_processor()}, Linux {platform.release()}",
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "python": " ".join(sys.version.split()),  # builds of one version differ by a tenth
        "packages": ", ".join(f"{name} {_version(name)}" for name in packages),
        "go": _go(),
        "nginx": _said(["nginx", "-v"]).removeprefix("nginx version: "),
        "postgres": _said(["postgres", "--version"]),
        "archivers": ", ".join(_said([name, "--version"]) for name in ("tar", "pigz", "igzip")),
        "wrk": _said(["wrk", "-v"]).partition(" [")[0],
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(": ")[2]
    return platform.machine()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def _go() -> str:
    try:
        return _said([go_program(), "version"]).removeprefix("go version ")
    except Missing:
        return "missing"


def _said(command: Sequence[str]) -> str:
    try:
        # wrk and nginx tell their version as if it were an error.
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return "missing"
    return (done.stdout + done.stderr).strip().partition("\n")[0]
