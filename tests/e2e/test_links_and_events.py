"""Links and events where several processes share one store."""

import asyncio
import os
import signal
from pathlib import Path

import httpx
from httpx_sse import aconnect_sse

from tests.e2e.operating import made_link
from tests.gateways import AUTH, KEY, command, key_entry, plant
from tests.wire import ask

CONFIG = {
    "auth": {"keys": [key_entry(scopes=["files:read", "links:write", "sessions:read"])]},
}


def two(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("one", "other"):
        os.mkdir(tmp_path / name)
    return tmp_path / "one", tmp_path / "other"


async def test_fifty_at_once_in_two_processes_get_exactly_what_is_allowed(tmp_path, root):
    plant(root, {"s1/a": b"a" * 1000})
    here, there = two(tmp_path)
    with command(here, root, CONFIG) as one, command(there, root, CONFIG) as other:
        url = await made_link(one.port, path="a", max_uses=10)
        ports = [one.port, other.port] * 25
        answers = await asyncio.gather(*(ask(port, url) for port in ports))

    assert sorted(answer.status for answer in answers) == [200] * 10 + [404] * 40
    assert len({answer.body for answer in answers if answer.status == 404}) == 1


async def test_a_client_goes_on_in_another_process_when_its_own_is_gone(tmp_path, root):
    plant(root, {"s1/a": b"a"})
    here, there = two(tmp_path)
    seen = []
    async with httpx.AsyncClient(headers={"X-API-Key": KEY}, timeout=30) as client:
        with command(there, root, CONFIG) as other:
            with command(here, root, CONFIG) as one:
                url = f"http://127.0.0.1:{one.port}/v1/sessions/s1/stream"
                async with aconnect_sse(client, "GET", url) as source:
                    await ask(other.port, "/api/v1/sessions/s1/files/a", AUTH)
                    async for event in source.aiter_sse():
                        seen.append(event)
                        one.signal(signal.SIGTERM)
                assert await one.exit_code() == 0
            await ask(other.port, "/api/v1/sessions/s1/files/a", AUTH)
            url = f"http://127.0.0.1:{other.port}/v1/sessions/s1/stream"
            headers = {"Last-Event-ID": seen[-1].id}
            async with aconnect_sse(client, "GET", url, headers=headers) as source:
                seen.append(await anext(source.aiter_sse()))

    assert [event.id for event in seen] == ["1", "2"]
    assert {event.event for event in seen} == {"workspace.downloaded"}
