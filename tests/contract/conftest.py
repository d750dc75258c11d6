"""Every rig and every kind of store there is, one at a time."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.store.base import Store
from gateway.store.store import opened
from tests import stores
from tests.rigs import Rig, rigs

RIGS = rigs()


@pytest.fixture(params=sorted(RIGS))
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    """Each executor, running, with an empty workspace."""
    async with RIGS[request.param](tmp_path) as running_rig:
        yield running_rig


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store_kind(request: pytest.FixtureRequest) -> str:
    """Each kind of store."""
    name: str = request.param
    return name


@pytest.fixture
async def store(store_kind: str, tmp_path: Path) -> AsyncIterator[Store]:
    """A new store of each kind."""
    async with opened(stores.address_of(store_kind, tmp_path)) as store:
        yield store


@pytest.fixture(params=["sqlite", "postgres"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a new store of each kind that processes can share."""
    return stores.address_of(request.param, tmp_path)
