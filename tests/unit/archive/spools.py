"""What tests of the spool share: entries, what is on the disk, other processes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from gateway.archive.spool import Begun, Spool, Spooled

CHECKOUT = Path(__file__).parents[3]


def key_of(number: int) -> str:
    """A key as a digest would be."""
    return f"{number:032x}"


def content(number: int, size: int) -> bytes:
    """The bytes of an entry, other ones for each."""
    return Random(number).randbytes(size)


async def make(spool: Spool, number: int, size: int) -> None:
    """Have the entry made at one go; it must have room."""
    growing = await spool.begin(key_of(number), size)
    assert growing is not None
    async with growing:
        await growing.append(content(number, size))
        await growing.finish()


async def read(spool: Spool, number: int) -> bytes | None:
    """The bytes of a complete entry, or of one that grows to the end; None if it is not there."""
    spooled = await spool.find(key_of(number))
    if spooled is None:
        return None
    async with spooled:
        return await read_on(spooled)


async def read_on(spooled: Spooled) -> bytes:
    """Follow to the end, and return all of it."""
    data = b""
    while (size := await spooled.beyond(len(data))) > len(data):
        data += os.pread(spooled.descriptor, size - len(data), len(data))
        assert len(data) == size
    assert spooled.is_complete
    return data


async def has(spool: Spool, number: int) -> bool:
    """Whether the entry is there; to ask is not to use it: the order of eviction stays."""
    try:
        growing = await spool.begin(key_of(number), 0)
    except Begun:
        return True
    if growing is not None:
        async with growing:
            pass
    return False


def on_disk(directory: Path) -> int:
    """The bytes that all files in the directory have, and not those that are only reserved."""
    total = 0
    for path in directory.iterdir():
        try:
            found = path.stat()
        except FileNotFoundError:
            continue
        total += min(found.st_size, found.st_blocks * 512)
    return total


def names(directory: Path) -> list[str]:
    """The files of the directory."""
    return sorted(os.listdir(directory))


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))


class Other:
    """Another process with a spool in the same directory; it does one thing for each line."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def ask(self, line: str) -> str:
        """Have it done; the answer, as one line."""
        self.tell(line)
        return self.answer()

    def tell(self, line: str) -> None:
        """Have it begin to do something."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        """What came of it."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        """End it without warning."""
        self.process.kill()
        self.process.wait()


@contextmanager
def another_process(directory: Path, most_bytes: int) -> Iterator[Other]:
    """Start `spool_process`."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.unit.archive.spool_process", directory, str(most_bytes)],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            other = Other(process)
            assert other.answer() == "ready"
            yield other
        finally:
            process.kill()
