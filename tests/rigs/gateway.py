"""Another gateway, with the local executor behind it, over each way there is to reach one."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

from gateway.executors.gateway.gateway import Gateway, GatewayConfig
from gateway.listeners import Unix
from tests import gateways
from tests.doubles.microvm import microvm
from tests.rigs import Rig

GUEST_PORT = 52
KEY = gateways.key_entry(scopes=["sessions:write", "files:read", "archives:read"])
CHANGES = {"auth": {"keys": [KEY]}}

Served = Callable[[Path, Path], AbstractAsyncContextManager[str]]
"""Serves the workspaces of a directory, and gives the URL of the gateway that does."""


@asynccontextmanager
async def over_tcp(root: Path, tmp_path: Path) -> AsyncIterator[str]:
    async with gateways.running(root, CHANGES) as sidecar:
        yield f"http://127.0.0.1:{sidecar.port}"


@asynccontextmanager
async def over_unix(root: Path, tmp_path: Path) -> AsyncIterator[str]:
    path = tmp_path / "sidecar.sock"
    async with gateways.running(root, CHANGES, at=Unix(str(path))):
        yield f"unix://{path}"


@asynccontextmanager
async def over_vsock(root: Path, tmp_path: Path) -> AsyncIterator[str]:
    path, guest = tmp_path / "v.sock", tmp_path / "sidecar.sock"
    async with (
        gateways.running(root, CHANGES, at=Unix(str(guest))),
        microvm(path, GUEST_PORT, guest),
    ):
        yield f"vsock+unix://{path}?port={GUEST_PORT}"


@asynccontextmanager
async def running(tmp_path: Path, *, served: Served) -> AsyncIterator[Rig]:
    workspace = tmp_path / "workspaces" / "s1"
    workspace.mkdir(parents=True)
    token = tmp_path / "token"
    token.write_text(gateways.KEY)
    async with served(workspace.parent, tmp_path) as url:
        data = {"type": "gateway", "url": url, "token": {"file": str(token)}}
        config = GatewayConfig.model_validate(data)
        async with Gateway.running("gateway", config) as executor:
            yield Rig(executor, workspace.name, partial(gateways.plant, workspace))


RIGS = {
    "tcp": partial(running, served=over_tcp),
    "unix": partial(running, served=over_unix),
    "vsock": partial(running, served=over_vsock),
}
