"""An API as there are many: files come as they are, in parts, too; directories come as tars."""

import io
import os
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from tests.doubles.serving import routed, serving

PROFILE = """
auth: {header: X-Files-Key}
list:
  request: {path: /list, query: {path: "{path}"}}
  entries: /entries
  fields:
    name: /name
    directory: {at: /is_dir, equals: true}
    size: /size
download:
  request: {path: /file, query: {path: "{path}"}}
errors:
  - {status: 404, means: path_not_found}
capabilities: {ranges: true, versions: true}
"""
TAR = """
archive:
  request: {path: /tar, query: {path: "{path}"}}
  format: tar
  prefix: "{name}"
"""
TAR_GZ = TAR.replace("/tar,", "/tar.gz,").replace("format: tar", "format: tar.gz")


@asynccontextmanager
async def file_api(root: Path, token: str) -> AsyncIterator[str]:
    """Serve what is below *root* to who shows *token*; yields the URL."""

    def place(request: web.Request) -> Path:
        if request.headers.get("X-Files-Key") != token:
            raise web.HTTPUnauthorized
        return root / request.query["path"].lstrip("/")

    async def listing(request: web.Request) -> web.Response:
        directory = place(request)
        if not directory.is_dir():
            raise web.HTTPNotFound
        with os.scandir(directory) as entries:
            told = [
                {"name": entry.name, "is_dir": entry.is_dir(), "size": entry.stat().st_size}
                for entry in entries
            ]
        return web.json_response({"entries": told})

    async def file(request: web.Request) -> web.StreamResponse:
        path = place(request)
        if not path.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(path)

    async def tar(request: web.Request) -> web.Response:
        directory = place(request)
        if not directory.is_dir():
            raise web.HTTPNotFound
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w:gz" if request.path == "/tar.gz" else "w") as tar:
            tar.add(directory, directory.name)
        return web.Response(body=made.getvalue(), content_type="application/octet-stream")

    async with serving(
        routed(
            web.get("/list", listing),
            web.get("/file", file),
            web.get("/tar", tar),
            web.get("/tar.gz", tar),
        )
    ) as url:
        yield url
