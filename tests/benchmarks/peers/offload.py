"""The gateway behind nginx as `deploy/` has them, with nginx sending large files by itself."""

import contextlib
import dataclasses
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.benchmarks.load import Broken
from tests.benchmarks.peers import (
    PYTHON,
    REPOSITORY,
    Bench,
    gateway_command,
    listen,
    local,
    nginx_command,
)
from tests.benchmarks.processes import Server, running, serving
from tests.benchmarks.raw import Reader
from tests.ports import free_port

_DEPLOY = REPOSITORY / "deploy" / "nginx"
_LOGGED_WITHIN_S = 5.0


@contextlib.contextmanager
def gateway_offload(bench: Bench) -> Iterator[Server]:
    """Serve with nginx and the gateway behind it, and count what both cost."""
    name, front, port = "gateway-offload", "gateway-offload-nginx", free_port()
    path, log = bench.directory(name) / "http.sock", bench.log(name)
    own = f"socket: {path}, offload: {{prefix: /_workspace_files/}}"
    behind = gateway_command(bench, name, own, local(bench))
    before = nginx_command(bench, front, _site(bench, bench.directory(front), path, port))
    with (
        running(name, behind, address=path, log=log, cwd=path.parent, env=PYTHON) as gateway,
        serving(name, before, port=port, log=bench.log(front)) as nginx,
    ):
        server = dataclasses.replace(nginx, sessions=(*nginx.sessions, gateway))
        _check_offloaded(server, log)
        yield server


def _site(bench: Bench, home: Path, path: Path, port: int) -> str:
    root = {"/mnt/sessions": str(bench.corpus.root)}
    snippet = home / "offload.conf"
    snippet.write_text(_shipped("workspace-gateway-offload.conf", root))
    include = "include /etc/nginx/snippets/workspace-gateway-offload.conf;"
    changes = {
        "listen 80;": f"listen {listen(port)};",
        "/run/workspace-gateway/http.sock": str(path),
        f"# {include}": f"include {snippet};",
    }
    return _shipped("workspace-gateway.conf", changes)


def _shipped(name: str, changes: Mapping[str, str]) -> str:
    text = (_DEPLOY / name).read_text()
    for old, new in changes.items():
        if old not in text:
            raise ValueError(f"deploy/nginx/{name} has no {old!r} any more")
        text = text.replace(old, new)
    return text


def _check_offloaded(server: Server, log: Path) -> None:
    """Raise `Broken` if the gateway sends a large file itself: the client could not tell."""
    with Reader(server) as reader:
        reader.get("/api/v1/sessions/files/files/1m.bin")
    deadline = time.monotonic() + _LOGGED_WITHIN_S
    while time.monotonic() < deadline:
        whole_lines = log.read_bytes().rpartition(b"\n")[0]
        for line in whole_lines.splitlines():
            seen = json.loads(line)
            if seen["event"] == "http_request" and seen["session_id"] == "files":
                if seen["bytes_sent"]:
                    raise Broken(f"{server.name} sent {seen['bytes_sent']} bytes itself")
                return
        time.sleep(0.02)
    raise Broken(f"{server.name} has logged no request")
