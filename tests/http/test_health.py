"""Health routes: what they cost whoever is asked."""

import asyncio
import os
from pathlib import Path

from aiohttp import web

from tests import gateways
from tests.doubles.serving import routed, serving


async def test_readiness_asks_executors_seldom_however_often_it_is_asked_for(
    tmp_path: Path,
) -> None:
    """It wants no credential, and each answer may cost as many requests as there are executors."""
    asked = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.05)
        return web.json_response({"files": []})

    async with serving(routed(web.get("/{any:.*}", answer))) as url:
        changes = {
            "executors": {"remote": {"type": "gateway", "url": url}},
            "placement": {"default": {"executor": "remote"}},
        }
        async with gateways.running(tmp_path, changes) as gateway:
            answers = await asyncio.gather(*[gateway.ask("/readyz") for _ in range(50)])

    assert {answer.status for answer in answers} == {200}
    assert asked == 1


async def test_a_spool_that_cannot_be_used_is_told_and_no_reason_to_send_nobody(
    tmp_path: Path,
) -> None:
    """Archives are made without it."""
    root = gateways.plant(tmp_path / "workspaces", {"s1": None})
    async with gateways.running(root) as gateway:
        before = await gateway.ask("/readyz")
        os.chmod(f"{root}.spool", 0o777)  # anybody could put an archive there
        await asyncio.sleep(1.1)  # an answer may be so old
        after = await gateway.ask("/readyz")

    assert (before.status, before.json["spool"]) == (200, {"ready": True})
    assert (after.status, after.json["spool"]) == (200, {"ready": False})


async def test_an_executor_that_is_silent_is_told_with_its_circuit(tmp_path: Path) -> None:
    async def silent(request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    async with serving(routed(web.get("/{any:.*}", silent))) as url:
        hasty = {"connect": "2s", "first_byte": "0.1s", "idle": "0.1s", "total": "0.1s"}
        changes = {
            "executors": {"remote": {"type": "gateway", "url": url, "timeout": hasty}},
            "placement": {"default": {"executor": "remote"}},
        }
        async with gateways.running(tmp_path, changes) as gateway:
            before = (await gateway.ask("/readyz")).json["executors"]["remote"]
            for _ in range(5):
                await gateway.file("f")
            await asyncio.sleep(1.1)  # an answer may be so old
            after = (await gateway.ask("/readyz")).json["executors"]["remote"]

    assert before == {"ready": False, "reason": "no answer", "circuit": "closed"}
    assert after == {"ready": False, "reason": "no answer", "circuit": "open"}
