"""Shannon's firecracker-executor 0.5.1 on directories of this host; a machine is a process here.

Written from what its sources say that it does, quirks included. What a machine cannot see, because
it is not in its workspace, the programs here do not see either.
"""

import asyncio
import io
import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import orjson
from aiohttp import web

from tests.doubles.serving import serving

_DOWNLOAD = """
import base64, os, sys
here = globals().get('here', '.')
path, root = here + '/' + {path}, os.path.realpath(here)
def give_up(why):
    sys.stderr.write(why)
    sys.exit(1)
if not os.path.exists(path) or not os.path.realpath(path).startswith(root + '/'):
    give_up('FILE_NOT_FOUND')
if os.path.isdir(path): give_up('IS_DIRECTORY')
with open(path, 'rb') as file: content = file.read()
sys.stdout.write(base64.b64encode(content).decode())
sys.stderr.write({noise} + str(len(content)))
"""


@dataclass
class Output:
    """What a machine answers."""

    success: bool
    stdout: str = ""
    stderr: str = ""
    exit_code: int = -1
    error: str | None = None
    is_transient: bool = False


@dataclass
class Shannon:
    """*directory* holds the workspaces; the other fields are what its operator, or its fate, sets.

    Without *boots* it reads files in this process: for deadlines that are shorter than the start of
    an interpreter on a busy host. What it is sent always runs in one of its own.

    *calls* are the routes that were asked, *at_once* the most calls under way for each session.
    """

    directory: Path
    url: str = ""
    boots: bool = True
    boot_s: float = 0.0
    machines: int = 20
    patience_s: float = 5.0
    noise: str = ""
    most_output: int | None = None
    calls: list[str] = field(default_factory=list)
    at_once: Counter[str] = field(default_factory=Counter)
    _under_way: Counter[str] = field(default_factory=Counter)
    _in_use: int = 0
    _locks: dict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    @classmethod
    @asynccontextmanager
    async def running(cls, directory: Path, *, boots: bool = True) -> AsyncIterator["Shannon"]:
        """Serve the workspaces in *directory* on a free port."""
        shannon = cls(directory, boots=boots)
        app = web.Application(client_max_size=2**26)
        app.router.add_get("/health", shannon.health)
        app.router.add_post("/execute", shannon.execute)
        app.router.add_post("/workspace/download", shannon.download)
        async with serving(app) as url:
            shannon.url = url
            yield shannon

    async def health(self, request: web.Request) -> web.Response:
        return _answer(
            200,
            {
                "status": "healthy",
                "pool_size": self._in_use,
                "warm_count": 0,
                "session_count": 0,
                "max_count": self.machines,
            },
        )

    async def execute(self, request: web.Request) -> web.Response:
        asked = await self._asked(request, "code", "session_id", "workspace_path")
        output = await self._run(asked, asked["code"], asked.get("stdin"))
        return _answer(
            503 if output.is_transient else 200,
            {
                "success": output.success,
                "stdout": output.stdout,
                "stderr": output.stderr,
                "exit_code": output.exit_code,
                "error": output.error,
                "duration_ms": 1,
            },
        )

    async def download(self, request: web.Request) -> web.Response:
        asked = await self._asked(request, "session_id", "workspace_path", "file_path")
        path = asked["file_path"]
        if ".." in path or path.startswith("/"):
            return _no_file(400, "Invalid file path: must be relative and cannot contain '..'")
        program = _DOWNLOAD.format(path=_literal(path), noise=repr(self.noise))
        output = await self._run(asked, program)
        if not output.success:
            if output.stderr in ("FILE_NOT_FOUND", "IS_DIRECTORY"):
                return _no_file(404, output.stderr)
            return _no_file(503 if output.is_transient else 500, output.error or output.stderr)
        size = output.stderr.strip()
        return _answer(
            200,
            {
                "success": True,
                "content": output.stdout,
                "content_type": "application/octet-stream",
                "size_bytes": int(size) if size.isdigit() else None,
                "error": None,
            },
        )

    async def _asked(self, request: web.Request, *needed: str) -> dict[str, Any]:
        self.calls.append(request.path)
        asked = await request.json()
        if not all(isinstance(asked.get(name), str) for name in needed):
            raise web.HTTPUnprocessableEntity
        assert asked["workspace_path"] == f"/mnt/sessions/{asked['session_id']}"
        return dict(asked)

    async def _run(self, asked: dict[str, Any], code: str, stdin: str | None = None) -> Output:
        """One life of a machine, with the session's lock held."""
        session = asked["session_id"]
        self._under_way[session] += 1
        self.at_once[session] = max(self.at_once[session], self._under_way[session])
        try:
            async with self._locks[session]:
                if self._in_use >= self.machines:
                    return Output(False, error="VM pool exhausted", is_transient=True)
                self._in_use += 1
                try:
                    await asyncio.sleep(self.boot_s)
                    if not self.boots and "code" not in asked:
                        return _run_here(self.directory / session, code)
                    return await self._live(self.directory / session, code, stdin)
                finally:
                    self._in_use -= 1
        finally:
            self._under_way[session] -= 1

    async def _live(self, workspace: Path, code: str, stdin: str | None) -> Output:
        artefact = workspace / "lost+found"  # a fresh ext4 has it; it is never synced back
        artefact.mkdir(parents=True, exist_ok=True)
        # Not a pipe: uvloop fails to write to a program that has ended already.
        with TemporaryFile() as given:
            given.write((stdin or "").encode())
            given.seek(0)
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                code,
                cwd=workspace,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
                stdin=given,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        try:
            async with asyncio.timeout(self.patience_s):
                stdout, stderr = await process.communicate()
        except TimeoutError:
            return Output(False, error="Resource temporarily unavailable (os error 11)")
        finally:
            if process.returncode is None:  # also of a call that is given up: it ends first
                process.kill()
                await process.communicate()
            if artefact.is_dir() and not any(artefact.iterdir()):
                artefact.rmdir()
        code_ = process.returncode
        assert code_ is not None
        return Output(code_ == 0, _text(stdout[: self.most_output]), _text(stderr), code_)


def _run_here(workspace: Path, program: str) -> Output:
    code, stdout, stderr = 0, io.StringIO(), io.StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr):
        try:
            exec(program, {"here": str(workspace)})
        except SystemExit as end:
            code = int(end.code or 0)
    return Output(code == 0, stdout.getvalue(), stderr.getvalue(), code)


def _literal(path: str) -> str:
    """As serde_json writes it: beyond ASCII as it is, so that Python reads the same."""
    return json.dumps(path, ensure_ascii=False)


def _text(output: bytes) -> str:
    """As Rust's `read_to_string` leaves it when the error is ignored: all, or nothing."""
    try:
        return output.decode()
    except UnicodeDecodeError:
        return ""


def _answer(status: int, body: object) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")


def _no_file(status: int, error: str) -> web.Response:
    return _answer(
        status,
        {
            "success": False,
            "content": None,
            "content_type": None,
            "size_bytes": None,
            "error": error,
        },
    )
