"""Fixtures of the tests that run the real command."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.e2e.operating import Clients, big_file
from tests.gateways import Process, command


@pytest.fixture(scope="session")
def big_root(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Workspaces with a file of 50 MB in `s1`, and its SHA-256."""
    root = tmp_path_factory.mktemp("big")
    return root, big_file(root)


@pytest.fixture
def served(tmp_path: Path, root: Path) -> Iterator[Process]:
    """The command, serving *root* with the settings of all tests."""
    with command(tmp_path, root) as process:
        yield process


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    """Makes connections that are closed at the end of the test."""
    clients = Clients()
    yield clients
    await clients.leave()
