"""What a server does while it is busy: how long small requests wait, how its memory grows."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.benchmarks.processes import Server
from tests.benchmarks.raw import Reader

# Several connections, so that every worker is asked, also the one that is busy.
_CONNECTIONS = 8
_PAUSE_S = 0.002
_SAMPLE_S = 0.01
_SETTLED_AFTER_S = 1.5  # a server that is ready may still be starting what helps it


@dataclass(slots=True)
class Waits:
    """How long requests took, in milliseconds."""

    ms: list[float] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """Return the value that *share* of the requests did not exceed."""
        ordered = sorted(self.ms)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


@dataclass(slots=True)
class Memory:
    """Resident memory at the start and at its peak."""

    before: int
    peak: int

    @property
    def growth_mb(self) -> float:
        """Return the growth in megabytes."""
        return (self.peak - self.before) / 1e6


@contextlib.contextmanager
def probing(server: Server, path: str) -> Iterator[Waits]:
    """Ask for *path* once in a while, over connections in turn, until the block ends."""
    waits = Waits()
    with contextlib.ExitStack() as open_connections:
        readers = [open_connections.enter_context(Reader(server)) for _ in range(_CONNECTIONS)]
        for reader in readers:
            reader.get(path)

        def ask(number: int) -> None:
            waits.ms.append(readers[number % _CONNECTIONS].get(path).total_ms)

        with _repeating(ask, _PAUSE_S):
            yield waits


@contextlib.contextmanager
def remembering(used: Callable[[], int]) -> Iterator[Memory]:
    """Sample how many bytes are *used* until the block ends."""
    time.sleep(_SETTLED_AFTER_S)
    memory = Memory(used(), 0)

    def sample(_: int) -> None:
        memory.peak = max(memory.peak, used())

    with _repeating(sample, _SAMPLE_S):
        yield memory


@contextlib.contextmanager
def _repeating(action: Callable[[int], None], pause_s: float) -> Iterator[None]:
    stopped = threading.Event()
    failures: list[Exception] = []

    def run() -> None:
        number = 0
        try:
            while not stopped.is_set():
                action(number)
                number += 1
                time.sleep(pause_s)
        except Exception as exc:  # noqa: BLE001  # raised again below, in the thread that cares
            failures.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
    if failures:
        raise failures[0]
