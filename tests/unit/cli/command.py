"""Runs the command line as a stranger would: a process of its own."""

import os
import subprocess
import sys

CHECKOUT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../../.."))


def command(
    *arguments: str, stdin: str = "", cwd: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `python -m gateway` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        env=inherited() | environment,
    )


_KEPT = {"PATH", "HOME", "LANG", "XDG_CACHE_HOME", "XDG_STATE_HOME"}


def inherited() -> dict[str, str]:
    """The environment in which the package is found and nothing is configured."""
    kept = {name: value for name, value in os.environ.items() if name in _KEPT}
    return kept | {"PYTHONPATH": CHECKOUT, "PYTHONWARNINGS": "error", "LC_ALL": "C.UTF-8"}
