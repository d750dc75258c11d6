"""What tests of the engine share: trees on the disk and in memory, and archives of them."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from gateway.archive.bodies import Source
from gateway.archive.build import build
from gateway.archive.helpers import Helpers
from gateway.archive.plan import Plan, planned
from gateway.domain.archives import Bodies, Format, Member, Packing
from gateway.domain.errors import PathNotFound, StreamBroken
from gateway.system.states import state_of

Tree = Mapping[bytes, bytes | None]
"""Contents by path; None: a directory."""

TIME = 1_700_000_001  # odd: MS-DOS knows even seconds only


def write(root: Path, tree: Tree) -> None:
    """Put the tree on the disk; every second file may be executed."""
    top = os.fsencode(root)
    for number, (path, data) in enumerate(tree.items()):
        where = top + b"/" + path
        if data is None:
            os.makedirs(where, exist_ok=True)
            continue
        os.makedirs(os.path.dirname(where), exist_ok=True)
        Path(os.fsdecode(where)).write_bytes(data)
        os.chmod(where, 0o755 if number % 2 else 0o640)
        os.utime(where, ns=(0, (TIME + number) * 10**9 + 123_456_789))


def members_of(root: Path) -> list[Member]:
    """What a walk tells of it, links to files included."""
    top = os.fsencode(root)
    found: list[Member] = []
    for directory, directories, files in os.walk(top):
        above = tuple(part for part in directory[len(top) :].split(b"/") if part)
        for name in directories:
            found.append(Member((*above, name), True, 0, TIME * 10**9, 0o755))
        for name in files:
            stat = os.stat(os.path.join(directory, name))
            mode, mtime_ns = stat.st_mode & 0o7777, stat.st_mtime_ns
            found.append(
                Member((*above, name), False, stat.st_size, mtime_ns, mode, state_of(stat))
            )
    return sorted(found)


class OnDisk:
    """Members that every process finds by itself."""

    def __init__(self, members: Sequence[Member], bodies: Bodies) -> None:
        self.members = members
        self.bodies = bodies

    @asynccontextmanager
    async def open(self, member: Member) -> AsyncIterator["Kept"]:
        raise AssertionError("it is to be found by its path")
        yield


@contextmanager
def opened(root: Path, resolver: str = "auto") -> Iterator[OnDisk]:
    """The tree below *root*, as it is now."""
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield OnDisk(members_of(root), Bodies(directory, (resolver, None)))
    finally:
        os.close(directory)


@dataclass
class Kept:
    """An open body; it gives *data*, and breaks off where there is *short* of it."""

    data: bytes
    pause_s: float = 0
    breaks: bool = True

    async def chunks(self, first: int, count: int | None) -> AsyncIterator[bytes]:
        end = len(self.data) if count is None else first + count
        for position in range(first, min(end, len(self.data)), 100_000):
            await asyncio.sleep(self.pause_s)
            yield self.data[position : min(end, position + 100_000)]
        if end > len(self.data) and self.breaks:
            raise StreamBroken("the file is shorter than it was")


@dataclass
class Fetched:
    """Members whose bodies have to be opened, from *gate* on; *now* is what they are by then."""

    tree: Tree
    now: dict[bytes, bytes] = field(default_factory=dict)
    pause_s: float = 0
    breaks: bool = True
    gate: asyncio.Event | None = None
    bodies: None = None
    opened: int = 0
    at_once: int = 0
    most_at_once: int = 0

    def __post_init__(self) -> None:
        self.now |= {path: data for path, data in self.tree.items() if data is not None}

    @property
    def members(self) -> list[Member]:
        return sorted(
            Member(tuple(path.split(b"/")), data is None, len(data or b""), TIME * 10**9, 0o644, 1)
            for path, data in self.tree.items()
        )

    @asynccontextmanager
    async def open(self, member: Member) -> AsyncIterator[Kept]:
        if self.gate is not None:
            await self.gate.wait()
        data = self.now.get(b"/".join(member.parts))
        if data is None:
            raise PathNotFound("there is no such file")
        self.opened += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            yield Kept(data, self.pause_s, self.breaks)
        finally:
            self.at_once -= 1


class File:
    """A sink that is a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)

    def __enter__(self) -> "File":
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    async def append(self, data: bytes) -> None:
        self._file.write(data)

    async def append_from(self, descriptor: int, count: int) -> None:
        assert os.fstat(descriptor).st_size >= count
        self._file.write(os.pread(descriptor, count, 0))


def plan_of(
    members: Sequence[Member], form: Format, *, stored: bool = False, origin: str = "local/s1"
) -> Plan:
    """Plan an archive of all of them."""
    return planned(origin, Packing(form, stored=stored), members)


async def archive(plan: Plan, source: Source, helpers: Helpers, path: Path) -> bytes:
    """Build it, as the file *path*; its bytes."""
    with File(path) as sink:
        await build(plan, source, helpers, sink)
    data = path.read_bytes()
    assert plan.size in (None, len(data))
    assert len(data) <= plan.most
    return data


async def packed(
    root: Path, form: Format, helpers: Helpers, path: Path, *, stored: bool = False
) -> Plan:
    """Make an archive of the tree below *root*."""
    with opened(root) as source:
        plan = plan_of(source.members, form, stored=stored)
        await archive(plan, source, helpers, path)
    return plan


def noise(number: int, size: int) -> bytes:
    """Bytes that nothing can compress."""
    return Random(number).randbytes(size)


def text(number: int, size: int) -> bytes:
    """Bytes like those of a program's source."""
    line = b" ".join(Random(number).choices(_WORDS, k=min(size // 4 + 1, 4000)))
    return (line * (size // len(line) + 1))[:size]


_WORDS = [noise(word, 3 + word % 5).hex().encode() for word in range(200)]
