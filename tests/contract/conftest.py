"""Every rig there is, one at a time."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.rigs import Rig, rigs

RIGS = rigs()


@pytest.fixture(params=sorted(RIGS))
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    """Each executor, running, with an empty workspace."""
    async with RIGS[request.param](tmp_path) as running_rig:
        yield running_rig
