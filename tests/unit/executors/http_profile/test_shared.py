"""Why one server for several workspaces has to be asked for: it follows links between them."""

import pytest

from gateway.domain.paths import WorkspacePath
from tests.gateways import plant
from tests.rigs.http_profile import RIGS


@pytest.mark.parametrize("backend", ["sandbox-agent", "open-terminal", "aio"])
@pytest.mark.parametrize("path", [b"l", b"d/secret"])
async def test_whoever_reads_one_workspace_of_a_shared_server_can_read_all(tmp_path, backend, path):
    async with RIGS[backend](tmp_path) as rig:
        plant(tmp_path / "workspaces" / "s2", {"secret": b"of s2"})
        rig.plant({"l": "../s2/secret", "d": "../s2"})

        linked = WorkspacePath(tuple(path.split(b"/")))
        async with rig.executor.open("s1", linked) as stream:
            read = b"".join([chunk async for chunk in stream.chunks(0, 5)])

    assert read == b"of s2"
