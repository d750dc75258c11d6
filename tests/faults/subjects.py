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
    come before it knows of the rest. *listings* are the operations whose answers have names and
    sizes in plain JSON.
    """

    backend: Callable[[Path], AbstractAsyncContextManager[int]]
    section: Callable[[Path, str], Mapping[str, Any]]
    streams: bool
    listings: tuple[str, ...]


def _token(tmp: Path) -> Mapping[str, str]:
    file = tmp / "token"
    file.write_text(TOKEN)
    return {"file": str(file)}


@asynccontextmanager
async def _gateway(root: Path) -> AsyncIterator[int]:
    changes = {"auth": {"keys": [gateways.key_entry(TOKEN)]}}
    async with gateways.running(root, changes) as gateway:
        yield gateway.port


def _gateway_section(tmp: Path, url: str) -> Mapping[str, Any]:
    return {"type": "gateway", "url": url, "token": _token(tmp)}


SUBJECTS = {
    "gateway": Subject(_gateway, _gateway_section, streams=True, listings=("list", "tree")),
}
