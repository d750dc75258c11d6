"""Making workspaces: who says that it can makes them, and all others say that they cannot."""

from dataclasses import replace

import pytest

from gateway.domain.errors import Unsupported
from gateway.domain.model import SessionId
from gateway.domain.paths import WorkspacePath
from gateway.executors.base import Sandbox
from tests.contract.asking import listed
from tests.rigs import Rig

NEW = SessionId("sess_new")


async def test_a_workspace_is_made_or_refused(rig: Rig) -> None:
    sandbox = Sandbox(NEW, secrets={"TOKEN": "t"})
    if not rig.executor.capabilities.provisions:
        with pytest.raises(Unsupported):
            await rig.executor.provision(sandbox)
        return

    made = await rig.executor.provision(sandbox)

    assert await listed(replace(rig, workspace=made)) == []


async def test_a_workspace_that_is_there_is_left_as_it_is(rig: Rig) -> None:
    if not rig.executor.capabilities.provisions:
        return
    rig.plant({"kept": b"x"})

    made = await rig.executor.provision(Sandbox(SessionId(rig.workspace)))

    assert made == rig.workspace
    async with rig.executor.open(made, WorkspacePath.parse(b"kept")) as stream:
        assert await stream.read(0, 1) == b"x"
