"""The executors that get a faulty backend: a real backend each, and how it is reached."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yarl import URL

from tests import gateways
from tests.doubles import file_api
from tests.doubles.firecracker import Shannon

TOKEN = "sk_executor_654321"
"""What the gateway under test shows to its executor; no client knows it."""


@dataclass(frozen=True)
class Subject:
    """*backend* serves the workspaces below a directory and yields its port; *section* is the
    executor's config for a backend at that URL.

    It *streams* answers of these framings: sends of a large file what has come before it knows of
    the rest. With *plain_names* its listings have names as JSON has them.
    """

    name: str
    backend: Callable[[Path], AbstractAsyncContextManager[int]]
    section: Callable[[Path, str], Mapping[str, Any]]
    streams: tuple[str, ...]
    plain_names: bool = True


def _token(tmp: Path) -> Mapping[str, str]:
    file = tmp / "token"
    file.write_text(TOKEN)
    return {"file": str(file)}


@asynccontextmanager
async def _gateway(root: Path) -> AsyncIterator[int]:
    scopes = ["files:read", "archives:read"]
    changes = {"auth": {"keys": [gateways.key_entry(TOKEN, scopes=scopes)]}}
    async with gateways.running(root, changes) as gateway:
        yield gateway.port


def _gateway_section(tmp: Path, url: str) -> Mapping[str, Any]:
    return {"type": "gateway", "url": url, "token": _token(tmp)}


@asynccontextmanager
async def _http_profile(root: Path) -> AsyncIterator[int]:
    async with file_api.file_api(root, TOKEN) as url:
        yield _port(url)


def _http_profile_section(tmp: Path, url: str) -> Mapping[str, Any]:
    profile = tmp / "profile.yaml"
    profile.write_text(file_api.PROFILE)
    return {
        "type": "http_profile",
        "profile": str(profile),
        "url": url,
        "token": _token(tmp),
        "root": "/{workspace}",
        "shared": True,
    }


@asynccontextmanager
async def _firecracker(root: Path) -> AsyncIterator[int]:
    async with Shannon.running(root, boots=False) as shannon:
        yield _port(shannon.url)


def _firecracker_section(tmp: Path, url: str) -> Mapping[str, Any]:
    return {"type": "firecracker", "url": url, "token": _token(tmp)}


def _port(url: str) -> int:
    port = URL(url).port
    assert port is not None
    return port


_ALL = (
    Subject(
        "gateway",
        _gateway,
        _gateway_section,
        streams=("length", "chunks"),
    ),
    Subject(
        "http_profile",
        _http_profile,
        _http_profile_section,
        streams=("length",),  # the profile says of no other that it proves its end
    ),
    Subject(
        "firecracker",
        _firecracker,
        _firecracker_section,
        streams=(),
        plain_names=False,  # but base64
    ),
)
SUBJECTS = {subject.name: subject for subject in _ALL}
