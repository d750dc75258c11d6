"""Archives that are made only as far as a test lets them: their makers stand still meanwhile.

What comes in between needs no workspace that takes long, and is no matter of luck.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.e2e.operating import eventually

_TURN_S = 0.003  # in which some megabytes are read and compressed
_HELPER = b"gateway.archive.helper_process"


class Halted:
    """The helper processes that make archives for one process and what it has started."""

    def __init__(self, helpers: Mapping[int, int]) -> None:
        self._helpers = helpers  # and the gateway of each

    async def work(self, until: Callable[[], object], within_s: float = 20) -> None:
        """Let them and the gateway go on, in turns, until that is so.

        No turn makes more than what the gateway had asked for before, however long it takes.
        """
        gateways = [*self._helpers.values()]
        end = time.monotonic() + within_s
        try:
            while not until():
                assert time.monotonic() < end, "it has not come true"
                _signal(gateways, signal.SIGSTOP)
                self.go_on()
                await asyncio.sleep(_TURN_S)
                self.stop()
                _signal(gateways, signal.SIGCONT)
                await asyncio.sleep(_TURN_S)  # for what was made to be written
        finally:
            _signal(gateways, signal.SIGCONT)

    def stop(self) -> None:
        """Do no more, until `go_on`."""
        _signal(self._helpers, signal.SIGSTOP)

    def go_on(self) -> None:
        """Do what there is to do."""
        _signal(self._helpers, signal.SIGCONT)


@asynccontextmanager
async def halted(pid: int, workers: int = 1) -> AsyncIterator[Halted]:
    """Stop the helpers of all *workers* at or below the process *pid* while inside."""
    count = workers * (os.cpu_count() or 1)
    await eventually(lambda: len([*_helpers_of(pid)]) == count)
    helpers = Halted(dict(_helpers_of(pid)))
    helpers.stop()
    try:
        yield helpers
    finally:
        helpers.go_on()


def _signal(processes: Iterable[int], number: signal.Signals) -> None:
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _helpers_of(pid: int) -> Iterator[tuple[int, int]]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
            for child in map(int, (task / "children").read_text().split()):
                if _HELPER in Path(f"/proc/{child}/cmdline").read_bytes():
                    yield child, pid
                else:
                    yield from _helpers_of(child)


def spool_of(root: Path) -> Path:
    """Where a gateway keeps archives of the workspaces in *root*, unless its config says so."""
    return Path(f"{root}.spool")


def written(spool: Path) -> int:
    """How many bytes there are of the archives that are being made."""
    return sum(part.stat().st_size for part in spool.glob("part-*"))
