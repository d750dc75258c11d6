"""An API like no other: many workspaces at one server, paths in URLs, base64, tars of its own."""

import base64
import io
import os
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from tests.doubles.serving import routed, serving

PROFILE = """
list:
  request: {path: "/tree/{path}"}
  entries: /reply/0/nodes
  fields:
    name: /a~1b/name
    directory: {at: /isDir, equals: true}
    size: /bytes
    modified: {at: /when, format: epoch_ms}
download:
  request: {method: POST, path: /read, body: {what: [{file: "of {path}"}]}}
  content: {at: /reply/content, encoding: base64}
errors:
  - {answer: {at: /reply/code, equals: 2}, means: path_not_found}
  - {answer: {at: /reply/code, equals: 36}, means: path_not_found}
  - {answer: {at: /reply/code, equals: 20}, means: not_a_directory}
  - {answer: {at: /reply/code, equals: 21}, means: not_a_file}
"""
ARCHIVE = """
archive:
  request: {path: "/tar/{path}"}
  format: tar
  prefix: "box/{name}"
"""
_ROOT = "/data"


@asynccontextmanager
async def odd_api(root: Path) -> AsyncIterator[str]:
    """Serve the directories below *root* as workspaces at /data; yields the URL."""

    def place(request: web.Request, path: str) -> str:
        assert path == _ROOT or path.startswith(f"{_ROOT}/")
        return f"{root}/{request.match_info['workspace']}{path.removeprefix(_ROOT)}"

    async def tree(request: web.Request) -> web.Response:
        _, _, _, path = request.raw_path.split("/")  # exactly one segment
        try:
            with os.scandir(place(request, unquote(path))) as entries:
                nodes = [_node(entry) for entry in entries]
        except OSError as exc:
            return web.json_response({"reply": {"code": exc.errno}}, status=418)
        return web.json_response({"reply": [{"nodes": nodes}]})

    async def read(request: web.Request) -> web.Response:
        asked = (await request.json())["what"][0]["file"].removeprefix("of ")
        try:
            with open(place(request, asked), "rb") as file:
                content = file.read()
        except OSError as exc:
            return web.json_response({"reply": {"code": exc.errno}})
        return web.json_response({"reply": {"content": base64.b64encode(content).decode()}})

    async def tar(request: web.Request) -> web.Response:
        path = unquote(request.raw_path.split("/")[3])
        made = io.BytesIO()
        try:
            with tarfile.open(fileobj=made, mode="w") as tar:
                _pack(
                    tar, place(request, unquote(path)), f"./box/{unquote(path).rpartition('/')[2]}"
                )
        except OSError as exc:
            return web.json_response({"reply": {"code": exc.errno}}, status=418)
        return web.Response(body=made.getvalue(), content_type="application/octet-stream")

    async with serving(
        routed(
            web.get("/{workspace}/tree/{path:[\\s\\S]*}", tree),
            web.get("/{workspace}/tar/{path:[\\s\\S]*}", tar),
            web.post("/{workspace}/read", read),
        )
    ) as url:
        yield url


def _node(entry: os.DirEntry[str]) -> dict[str, Any]:
    name = os.fsencode(entry.name).decode("utf-8", "replace")
    if not os.path.exists(entry.path):
        return {"a/b": {"name": name}, "isDir": False}
    found = entry.stat()
    return {
        "a/b": {"name": name},
        "isDir": entry.is_dir(),
        "bytes": str(found.st_size),
        "when": found.st_mtime * 1000,
    }


def _pack(tar: tarfile.TarFile, directory: str, name: str) -> None:
    """All below *directory*, in the order of paths, with the times that a listing tells."""
    for found in sorted(os.listdir(directory), key=os.fsencode):
        path, inside = f"{directory}/{found}", f"{name}/{found}"
        info = tar.gettarinfo(path, inside)
        if info is None:
            continue  # a socket
        info.mode = 0
        info.pax_headers = {"mtime": str(Decimal(str(os.lstat(path).st_mtime * 1000)) / 1000)}
        with open(path if info.isreg() else os.devnull, "rb") as file:
            tar.addfile(info, file)
        if info.isdir():
            _pack(tar, path, inside)
