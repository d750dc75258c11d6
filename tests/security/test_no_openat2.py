"""Where a sandbox forbids openat2 or has none: the component walk takes over, and says so."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from tests import needs
from tests.unit.executors.local.rig import Place

CHECK = """
import asyncio, sys
from gateway.domain.errors import Unavailable
from gateway.executors.local.local import Local, LocalConfig
from tests.seccomp import OPENAT2, deny
from tests.unit.executors.local.rig import outcome

if not deny(OPENAT2, int(sys.argv[2])):
    sys.exit("no seccomp")

async def main():
    config = LocalConfig(type="local", root=sys.argv[1])
    async with Local.running("local", config) as executor:
        print((await executor.probe()).details["resolver"])
        print(await outcome(executor, "link"), (await outcome(executor, "out"))[0].__name__)
    try:
        async with Local.running("local", config.model_copy(update={"resolver": "openat2"})):
            pass
    except Unavailable as exc:
        print(exc.message)

asyncio.run(main())
"""


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EPERM])
def test_without_openat2_the_components_are_walked(tmp_path: Path, code: int) -> None:
    place = Place(tmp_path)
    place.file("f")
    place.link("link", "f")
    place.link("out", "../../outside/f")

    done = subprocess.run(
        [sys.executable, "-c", CHECK, place.root, str(code)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )

    if "no seccomp" in done.stderr:
        needs.missing("seccomp filters do not work here")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "components",
        "b'inside' PathRefused",
        "resolver: openat2 is not available (Linux before 5.6, or a sandbox forbids it);"
        " use 'auto' or 'components'",
    ]
