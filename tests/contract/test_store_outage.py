"""What every store promises while its database is away, and when it is back."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.config.store_url import sqlite_file
from gateway.domain.model import SessionId
from gateway.store.base import Store
from gateway.store.store import opened
from tests import stores
from tests.postgres import server

S1 = SessionId("s1")


@dataclass
class Breakable:
    """A store, and how its database goes away and comes back."""

    url: str
    store: Store
    stop: Callable[[], None]
    start: Callable[[], None]


@contextmanager
def _switch(kind: str, url: str) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    if kind == "postgres":
        stopped = False

        def stop() -> None:
            nonlocal stopped
            server().stop()
            stopped = True

        def start() -> None:
            nonlocal stopped
            server().start()
            stopped = False

        try:
            yield stop, start
        finally:
            if stopped:
                server().start()
    else:
        file = sqlite_file(url)
        assert file is not None

        def hide() -> None:
            # Truncated in the middle of a write by whoever administers the disk.
            os.rename(file, f"{file}.away")
            os.mkdir(file)

        def show() -> None:
            os.rmdir(file)
            os.rename(f"{file}.away", file)

        yield hide, show


@pytest.fixture(params=["sqlite", "postgres"])
async def breakable(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Breakable]:
    """Each kind of store that can go away."""
    async with _breakable(request.param, tmp_path) as one:
        yield one


@asynccontextmanager
async def _breakable(kind: str, tmp_path: Path) -> AsyncIterator[Breakable]:
    url = stores.address_of(kind, tmp_path)
    with _switch(kind, url) as (stop, start):
        async with opened(url) as store:
            yield Breakable(url, store, stop, start)
