"""Health routes: what they cost whoever is asked."""

import asyncio
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
