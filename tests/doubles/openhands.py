"""OpenHands agent-server's downloads, as its 1.58 answers; for where Python 3.12 is missing."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from tests.doubles.serving import routed, serving


@asynccontextmanager
async def openhands(token: str) -> AsyncIterator[str]:
    """Run it with *token* as its session key; yields its URL."""

    def admit(request: web.Request) -> None:
        if request.headers.get("X-Session-API-Key") != token:
            raise _error(web.HTTPUnauthorized, "Unauthorized")

    async def alive(request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def download(request: web.Request) -> web.StreamResponse:
        admit(request)
        path = request.query["path"]
        if not os.path.exists(path):
            raise _error(web.HTTPNotFound, "File not found")
        if not os.path.isfile(path):
            raise _error(web.HTTPBadRequest, "Path is not a file")
        return web.FileResponse(path, headers={"Content-Type": "application/octet-stream"})

    async def search_subdirs(request: web.Request) -> web.Response:
        admit(request)
        path = request.query["path"]
        if not os.path.exists(path):
            raise _error(web.HTTPNotFound, "Directory not found")
        if not os.path.isdir(path):
            raise _error(web.HTTPBadRequest, "Path is not a directory")
        return web.json_response({"items": [], "next_page_id": None})

    async with serving(
        routed(
            web.get("/alive", alive),
            web.get("/api/file/download", download),
            web.get("/api/file/search_subdirs", search_subdirs),
        )
    ) as url:
        yield url


def _error(kind: type[web.HTTPException], detail: str) -> web.HTTPException:
    return kind(text=f'{{"detail":"{detail}"}}', content_type="application/json")
