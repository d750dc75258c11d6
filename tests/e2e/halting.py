"""Archives that are made only as far as a test lets them: their makers stand still meanwhile.

What comes in between needs no workspace that takes long, and is no matter of luck.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.e2e.operating import eventually

_TURN_S = 0.003  # in which some megabytes are read and compressed
_HELPER = b"gateway.archive.helper_process"


class Halted:
    """The helper processes that make archives for one process and what it has started."""

    def __init__(self, helpers: list[int]) -> None:
        self._helpers = helpers

    async def work(self, until: Callable[[], object], within_s: float = 20) -> None:
        """Let them go on, in short turns, until that is so."""
        end = time.monotonic() + within_s
        while not until():
            assert time.monotonic() < end, "it has not come true"
            self.go_on()
            await asyncio.sleep(_TURN_S)
            self.stop()
            await asyncio.sleep(_TURN_S)  # for what was made to be written

    def stop(self) -> None:
        """Do no more, until `go_on`."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Do what there is to do."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._helpers:
            with suppress(ProcessLookupError):
                os.kill(pid, number)


@asynccontextmanager
async def halted(pid: int, workers: int = 1) -> AsyncIterator[Halted]:
    """Stop the helpers of all *workers* at or below the process *pid* while inside."""
    count = workers * (os.cpu_count() or 1)
    await eventually(lambda: len([*_helpers_of(pid)]) == count)
    helpers = Halted([*_helpers_of(pid)])
    helpers.stop()
    try:
        yield helpers
    finally:
        helpers.go_on()


def _helpers_of(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
            for child in map(int, (task / "children").read_text().split()):
                if _HELPER in Path(f"/proc/{child}/cmdline").read_bytes():
                    yield child
                else:
                    yield from _helpers_of(child)


def spool_of(root: Path) -> Path:
    """Where a gateway keeps archives of the workspaces in *root*, unless its config says so."""
    return Path(f"{root}.spool")


def written(spool: Path) -> int:
    """How many bytes there are of the archives that are being made."""
    return sum(part.stat().st_size for part in spool.glob("part-*"))
