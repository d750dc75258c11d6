"""What resolves paths is tested on the local executor's workspace, and through that executor."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.executors.local.local import Local
from tests.unit.executors.local.rig import RESOLVERS, Place, running


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(params=RESOLVERS)
async def executor(request: pytest.FixtureRequest, place: Place) -> AsyncIterator[Local]:
    async with running(place, request.param) as executor:
        yield executor
