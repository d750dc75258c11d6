"""AIO Sandbox's file API, after its published OpenAPI 1.9.4 and its page on file errors.

What those leave open is done as Python servers do it: the code of its listing is not published.
"""

import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from tests.doubles.serving import routed, serving

TOKEN = "aio-token"
_TYPES = {errno.ENOENT: "not_found", errno.EACCES: "permission_denied"}


@asynccontextmanager
async def aio() -> AsyncIterator[str]:
    """Run it; yields its URL."""
    async with serving(
        routed(
            web.post("/v1/file/list", _list),
            web.get("/v1/file/download", _download),
            web.get("/v1/sandbox", _sandbox),
        )
    ) as url:
        yield url


def _admit(request: web.Request) -> None:
    if request.headers.get("X-AIO-API-Key") != TOKEN:
        raise web.HTTPUnauthorized


async def _sandbox(request: web.Request) -> web.Response:
    _admit(request)
    return web.json_response({"success": True, "message": "ok", "data": {}})


async def _list(request: web.Request) -> web.Response:
    _admit(request)
    path = (await request.json())["path"]
    try:
        files = [_info(path, name) for name in sorted(os.listdir(path))]
    except OSError as exc:
        return web.json_response(_failure(path, exc))
    data = {"path": path, "files": files, "total_count": len(files)}
    return web.json_response({"success": True, "message": "Operation successful", "data": data})


def _info(directory: str, name: str) -> dict[str, Any]:
    path = os.path.join(directory, name)
    shown = os.fsencode(name).decode("utf-8", "replace")
    if not os.path.exists(path):  # a dangling link
        return {"name": shown, "path": path, "is_directory": False, "size": None}
    found = os.stat(path)
    return {
        "name": shown,
        "path": os.fsencode(path).decode("utf-8", "replace"),
        "is_directory": os.path.isdir(path),
        "size": found.st_size,
        "modified_time": datetime.fromtimestamp(found.st_mtime, UTC).isoformat(),
    }


def _failure(path: str, exc: OSError) -> dict[str, Any]:
    message = f"Failed to list path: {exc}"
    number = exc.errno or 0
    data = {
        "path": path,
        "operation": "list",
        "message": message,
        "error_type": _TYPES.get(number, "invalid_target"),
        "retryable": False,
        "errno": number,
        "errno_name": errno.errorcode[number],
        "exception_type": type(exc).__name__,
    }
    return {"success": False, "message": message, "data": data}


async def _download(request: web.Request) -> web.StreamResponse:
    """It streams: there is no length before the body."""
    _admit(request)
    assert request.query["change_policy"] == "abort"
    path = request.query["path"]
    if not os.path.isfile(path):
        status = 400 if os.path.exists(path) else 404
        return web.json_response({"detail": "cannot be downloaded"}, status=status)
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    with open(path, "rb") as file:
        while chunk := file.read(65536):
            await response.write(chunk)
    await response.write_eof()
    return response
