"""What the tests of this executor ask of it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from aiohttp import web

from gateway.domain.model import Entry
from gateway.domain.paths import WorkspacePath
from gateway.executors.base import Executor
from gateway.executors.firecracker.firecracker import Firecracker, FirecrackerConfig
from tests.doubles.serving import serving


def firecracker(url: str, **settings: Any) -> AbstractAsyncContextManager[Firecracker]:
    """The executor of a server at *url*."""
    config = FirecrackerConfig(type="firecracker", url=url, **settings)
    return Firecracker.running("firecracker", config)


@asynccontextmanager
async def facing(
    answers: Mapping[str, web.Response | bytes], **settings: Any
) -> AsyncIterator[Firecracker]:
    """The executor of a server that gives *answers*, JSON text or a response, by route."""

    async def answer(request: web.Request) -> web.Response:
        prepared = answers[request.path]
        if isinstance(prepared, bytes):
            return web.Response(body=prepared, content_type="application/json")
        return prepared

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", answer)
    async with serving(app) as url, firecracker(url, **settings) as executor:
        yield executor


async def content(executor: Executor, path: str | bytes, workspace: str = "s1") -> bytes:
    """The file at *path* as a client gets it."""
    async with executor.open(workspace, at(path)) as stream:
        return b"".join([piece async for piece in stream.chunks(0, stream.entry.size)])


async def entries(
    executor: Executor, path: str | bytes = "", workspace: str = "s1", depth: int = 1, **how: Any
) -> list[Entry]:
    """What is listed below *path*."""
    async with executor.walk(workspace, at(path), depth=depth, **how) as walk:
        return [entry for batch in [batch async for batch in walk] for entry in batch]


async def names(executor: Executor, path: str | bytes = "", **how: Any) -> list[str]:
    """The paths of what is listed below *path*."""
    return [entry.path.relative for entry in await entries(executor, path, **how)]


def at(path: str | bytes) -> WorkspacePath:
    """A path; two dots and bytes that are not UTF-8 are let through where a client may ask so."""
    raw = path if isinstance(path, bytes) else path.encode()
    return WorkspacePath(tuple(raw.split(b"/")) if raw else ())
