"""Shannon's executor, as far as a machine can be a process of this host."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from gateway.executors.firecracker.firecracker import Firecracker, FirecrackerConfig
from tests.doubles.firecracker import Shannon
from tests.gateways import plant
from tests.rigs import Rig


@asynccontextmanager
async def running(tmp_path: Path) -> AsyncIterator[Rig]:
    workspace = tmp_path / "sessions" / "s1"
    workspace.mkdir(parents=True)
    async with Shannon.running(workspace.parent) as shannon:
        config = FirecrackerConfig(type="firecracker", url=shannon.url, workspaces="/mnt/sessions")
        async with Firecracker.running("firecracker", config) as executor:
            yield Rig(executor, workspace.name, partial(plant, workspace))
