"""The local executor, with each of its resolvers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from gateway.executors.local.local import Local, LocalConfig
from gateway.system.resolver import Wish
from tests import needs
from tests.gateways import plant
from tests.rigs import Rig


@asynccontextmanager
async def running(tmp_path: Path, *, resolver: Wish) -> AsyncIterator[Rig]:
    if resolver == "openat2":
        needs.openat2()
    workspace = tmp_path / "workspaces" / "s1"
    workspace.mkdir(parents=True)
    config = LocalConfig(type="local", root=str(workspace.parent), resolver=resolver)
    async with Local.running("local", config) as executor:
        yield Rig(executor, workspace.name, partial(plant, workspace))


RIGS = {
    "openat2": partial(running, resolver="openat2"),
    "components": partial(running, resolver="components"),
}
