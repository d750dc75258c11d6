"""The executor in front of Shannon's double, and in front of servers that say what a test wants."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.executors.firecracker.firecracker import Firecracker
from tests.doubles.firecracker import Shannon
from tests.unit.executors.firecracker.rig import firecracker


@pytest.fixture
def sessions(tmp_path: Path) -> Path:
    """The directory of the workspaces; `s1` is there, with one file."""
    workspace = tmp_path / "sessions" / "s1"
    workspace.mkdir(parents=True)
    (workspace / "a.txt").write_bytes(b"hello")
    return workspace.parent


@pytest.fixture
async def shannon(sessions: Path) -> AsyncIterator[Shannon]:
    async with Shannon.running(sessions) as running:
        yield running


@pytest.fixture
async def executor(shannon: Shannon) -> AsyncIterator[Firecracker]:
    async with firecracker(shannon.url) as running:
        yield running
