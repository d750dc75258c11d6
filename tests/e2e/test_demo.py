"""The first minute of a stranger: `make demo` in a fresh copy; needs a minute and PyPI.

It runs where the environment variable CI is set, and with `MAKE_DEMO=1 make test`. What `demo`
itself does is tested in `tests/unit/cli/test_demo.py`.
"""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests import needs
from tests.e2e.demos import Demo, demo
from tests.e2e.operating import CHECKOUT
from tests.ports import free_port


def paste(printed: str, cwd: Path) -> list[bytes]:
    """Run every `curl` line that was printed, and return what each answers."""
    return [
        subprocess.run(
            ["bash", "-c", line.replace("curl ", "curl -sS --fail ", 1)],
            cwd=cwd,
            capture_output=True,
            timeout=20,
            check=True,
        ).stdout
        for line in printed.splitlines()
        if line.startswith("curl ")
    ]


def group(demo: Demo) -> list[str]:
    """The processes of the demo's group, the dead ones aside."""
    listed = subprocess.run(
        ["ps", "-e", "-o", "pgid=,stat=,args="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [
        line
        for line in listed
        if line.split()[0] == str(demo.popen.pid) and not line.split()[1].startswith("Z")
    ]


def test_ctrl_c_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    needs.program("ps")
    (tmp_path / "elsewhere").mkdir()
    with demo(tmp_path) as running:
        assert len(paste(running.printed, tmp_path / "elsewhere")) >= 12
        assert group(running)

        assert running.interrupt() == 0

    assert group(running) == []
    assert sorted(os.listdir(tmp_path)) == ["demo.log", "elsewhere"]
    assert "Traceback" not in (tmp_path / "demo.log").read_text()


@pytest.mark.skipif(
    not (os.environ.get("CI") or os.environ.get("MAKE_DEMO")),
    reason="installs from PyPI; set CI or MAKE_DEMO to run it",
)
def test_make_demo_works_in_a_fresh_copy(tmp_path: Path) -> None:
    """With everything that is not ignored, committed or not."""
    for program in ("make", "git", "curl", "ps"):
        needs.program(program)
    copy = tmp_path / "copy"
    (tmp_path / "elsewhere").mkdir()
    git(CHECKOUT, "clone", "-q", "--no-hardlinks", str(CHECKOUT), str(copy))
    files = git(CHECKOUT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, files.split("\0")):
        target = copy / name
        target.unlink(missing_ok=True)
        if (CHECKOUT / name).exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((CHECKOUT / name).read_bytes())
    before = git(copy, "status", "--porcelain")
    port = free_port()

    make = ("make", "-C", str(copy), "--no-print-directory", "demo", f"PORT={port}")
    with demo(tmp_path, *make, port=port, PYTHONPATH="") as running:
        answers = paste(running.printed, tmp_path / "elsewhere")
        # make gets the signal as well, waits for the demo, and ends by it.
        assert running.interrupt() == -signal.SIGINT

    assert len(answers) >= 12
    assert all(answers[:3])
    assert group(running) == []
    assert git(copy, "status", "--porcelain") == before


def git(cwd: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-c", "safe.directory=*", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
