"""A gateway executor in front of a double."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gateway.domain.model import Entry
from gateway.domain.paths import WorkspacePath
from gateway.executors.gateway.gateway import Gateway, GatewayConfig


@asynccontextmanager
async def executor(url: str, **settings: Any) -> AsyncIterator[Gateway]:
    config = GatewayConfig.model_validate({"type": "gateway", "url": url, **settings})
    async with Gateway.running("edge", config) as running:
        yield running


def at(path: str) -> WorkspacePath:
    return WorkspacePath.parse(path.encode())


async def listed(edge: Gateway, path: str = "", **options: Any) -> list[Entry]:
    options.setdefault("depth", 9)
    async with edge.walk("s1", at(path), **options) as walk:
        return [entry async for batch in walk for entry in batch]


async def content(edge: Gateway, path: str = "f") -> bytes:
    async with edge.open("s1", at(path)) as stream:
        return b"".join([chunk async for chunk in stream.chunks(0, stream.entry.size)])
