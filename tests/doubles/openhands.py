"""OpenHands agent-server's downloads and archives, as its 1.58 answers.

For where Python 3.12 is missing.
"""

import io
import json
import os
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

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

    async def archive(request: web.Request) -> web.Response:
        admit(request)
        path = Path(request.query["path"])
        assert request.query["format"] == "tar.gz"
        assert request.query["use_default_excludes"] == "false"
        if not path.exists():
            raise _error(web.HTTPNotFound, "Directory not found")
        if not path.is_dir():
            raise _error(web.HTTPBadRequest, "Path is not a directory")
        repository = _repository(path.resolve())
        headers = {"Content-Type": "application/gzip"}
        if (repository / ".git").exists():
            headers["X-Archive-Repo-Root"] = quote(str(repository), safe="")
        excludes = request.query.getall("exclude", [])
        return web.Response(body=_packed(repository, excludes), headers=headers)

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
            web.get("/api/file/archive", archive),
            web.get("/api/file/download", download),
            web.get("/api/file/search_subdirs", search_subdirs),
        )
    ) as url:
        yield url


def _error(kind: type[web.HTTPException], detail: str) -> web.HTTPException:
    return kind(text=f'{{"detail":"{detail}"}}', content_type="application/json")


def _repository(path: Path) -> Path:
    """The only git repository that lies up to three levels below *path*, if it is none itself."""
    if (path / ".git").exists():
        return path
    levels = ("*/.git", "*/*/.git", "*/*/*/.git")
    found = [git.parent for level in levels for git in path.glob(level)]
    return found[0] if len(found) == 1 else path


def _packed(root: Path, excludes: list[str]) -> bytes:
    """Directories and regular files, and what was captured as the last one."""
    made = io.BytesIO()
    count = 0

    def is_left_out(name: str, *, is_directory: bool) -> bool:
        return name in excludes or (is_directory and f"{name}/" in excludes)

    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for directory, directories, files in os.walk(root):
            directories[:] = [d for d in directories if not is_left_out(d, is_directory=True)]
            here = os.path.normpath(os.path.join(root.name, os.path.relpath(directory, root)))
            if not os.path.islink(directory):
                tar.add(directory, here, recursive=False)
            for name in files:
                path = os.path.join(directory, name)
                if os.path.islink(path) or not os.path.isfile(path):
                    continue
                if not is_left_out(name, is_directory=False):
                    tar.add(path, f"{here}/{name}")
                    count += 1
        if not (root / "archive_manifest.json").exists():
            manifest = json.dumps({"file_count": count}).encode()
            info = tarfile.TarInfo(f"{root.name}/archive_manifest.json")
            info.size = len(manifest)
            tar.addfile(info, io.BytesIO(manifest))
    return made.getvalue()
