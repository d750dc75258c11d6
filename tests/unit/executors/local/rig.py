"""A root with one session, and the local executor on it."""

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.domain.errors import GatewayError
from gateway.domain.model import Entry
from gateway.domain.paths import WorkspacePath
from gateway.executors.local.local import Local, LocalConfig

RESOLVERS = ("openat2", "components")
OUTSIDE = b"bytes from outside the workspace"


class Place:
    """`<root>/s1` with a neighbour `s1-secret` and a directory `outside` beside the root."""

    def __init__(self, base: Path) -> None:
        self.root = base / "root"
        self.session = self.root / "s1"
        self.secret = self.root / "s1-secret"
        self.outside = base / "outside"
        for directory in (self.session, self.secret, self.outside):
            directory.mkdir(parents=True)
        (self.secret / "f").write_bytes(OUTSIDE)
        (self.outside / "f").write_bytes(OUTSIDE)

    def file(self, name: str, content: bytes = b"inside") -> Path:
        path = self.session / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def link(self, name: str, target: str) -> None:
        path = self.session / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)


@asynccontextmanager
async def running(
    place: Place, resolver: str = "auto", prefix: str | None = None
) -> AsyncIterator[Local]:
    config = LocalConfig(
        type="local", root=str(place.root), resolver=resolver, sandbox_prefix=prefix
    )
    async with Local.running("local", config) as executor:
        yield executor


async def content(executor: Local, path: str | bytes, session: str = "s1") -> bytes:
    where = WorkspacePath.parse(os.fsencode(path))
    async with executor.open(session, where) as stream:
        return await stream.read(0, stream.entry.size or 0)


async def outcome(executor: Local, path: str | bytes, session: str = "s1") -> object:
    """The content, or the class and message of the verdict."""
    try:
        return await content(executor, path, session)
    except GatewayError as exc:
        return type(exc), exc.message


async def listed(
    executor: Local,
    path: str | bytes = "",
    *,
    session: str = "s1",
    depth: int = 10_000,
    **more: object,
) -> list[Entry]:
    where = WorkspacePath.parse(os.fsencode(path))
    async with executor.walk(session, where, depth=depth, **more) as walk:
        return [entry async for batch in walk for entry in batch]


def open_files() -> int:
    gc.collect()  # the event loops of earlier tests
    return len(os.listdir("/proc/self/fd"))


async def only_open(count: int) -> None:
    """Wait for it: a thread closes what it has open after its task has gone."""
    async with asyncio.timeout(5):
        while open_files() != count:
            await asyncio.sleep(0.01)
