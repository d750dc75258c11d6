"""The executors that get a faulty backend: a real backend each, and how it is reached."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import gateways

TOKEN = "sk_executor_654321"
"""What the gateway under test shows to its executor; no client knows it."""


@dataclass(frozen=True)
class Subject:
    """*backend* serves the workspaces below a directory and yields its port; *section* is the
    executor's config for a backend at that URL. One that *streams* sends of a large file what has
    come before it knows of the rest; one that *lists_json* finds names and sizes there.
    """

    backend: Callable[[Path], AbstractAsyncContextManager[int]]
    section: Callable[[Path, str], Mapping[str, Any]]
    streams: bool
    lists_json: bool


@asynccontextmanager
async def _gateway(root: Path) -> AsyncIterator[int]:
    changes = {"auth": {"keys": [gateways.key_entry(TOKEN)]}}
    async with gateways.running(root, changes) as gateway:
        yield gateway.port


def _gateway_section(tmp: Path, url: str) -> Mapping[str, Any]:
    token = tmp / "token"
    token.write_text(TOKEN)
    return {"type": "gateway", "url": url, "token": {"file": str(token)}}


SUBJECTS = {"gateway": Subject(_gateway, _gateway_section, streams=True, lists_json=True)}
