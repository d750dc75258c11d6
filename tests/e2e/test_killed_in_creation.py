"""A gateway that is killed while it has a workspace made."""

import asyncio
import signal
from contextlib import ExitStack
from pathlib import Path

from tests import stores
from tests.gateways import AUTH, command, key_entry, plant
from tests.wire import Wire, ask, head

SCOPES = ["sessions:read", "sessions:write", "files:read"]
CONFIG = {
    "auth": {"keys": [key_entry(scopes=SCOPES)]},
    "agents": {"agt_1": {"version": "ver_1"}},
}


async def _session(port: int, status: str) -> str:
    """The only session, once it has *status*."""
    async with asyncio.timeout(30):
        while True:
            found = (await ask(port, "/v1/sessions", AUTH)).json["sessions"]
            if [one["status"] for one in found] == [status]:
                session_id: str = found[0]["id"]
                return session_id
            await asyncio.sleep(0.1)


async def test_its_sessions_fail_and_work_if_their_workspace_is_there_after_all(
    tmp_path: Path, root: Path, each_store: str
) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listening = await asyncio.start_server(hang, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    elsewhere = {
        **CONFIG,
        "executors": {"elsewhere": {"type": "gateway", "url": url}},
        "placement": {"default": {"executor": "elsewhere"}},
    }
    async with listening:
        with ExitStack() as stack:
            starting = command(tmp_path, root, elsewhere)
            gateway = await asyncio.to_thread(stack.enter_context, starting)
            async with await Wire.connect(gateway.port) as wire:
                await wire.send(head("/v1/agents/agt_1/sessions", AUTH, method="POST"))
                session_id = await _session(gateway.port, "provisioning")
                gateway.signal(signal.SIGKILL)
                await gateway.exit_code()

    with command(tmp_path, root, CONFIG) as gateway:
        assert await _session(gateway.port, "provisioning") == session_id
    stores.execute(each_store, "UPDATE sessions SET created_at = created_at - 361000000")
    with command(tmp_path, root, CONFIG) as gateway:
        assert await _session(gateway.port, "failed") == session_id
        files = f"/api/v1/sessions/{session_id}/files"
        before = await ask(gateway.port, files, AUTH)
        plant(root, {f"{session_id}/a": b"a"})
        after = await ask(gateway.port, files, AUTH)
        assert await _session(gateway.port, "idle") == session_id

    assert (before.status, after.status) == (404, 200)
