"""The real nginx and Caddy with the configurations that are shipped, in front of a gateway.

What is changed in them is where a test has to be: ports, the socket, the workspaces' root.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import needs
from tests.e2e.operating import CHECKOUT
from tests.ports import free_port

DEPLOY = CHECKOUT / "deploy"
_SOCKET = "/run/workspace-gateway/http.sock"
_SEVERAL = ("10.0.0.11:8080", "10.0.0.12:8080")

Where = str | int | tuple[int, int]
"""The unix socket or the port of a gateway, or the ports of two of them."""


@dataclass
class Proxy:
    """A proxy that listens on a port of this machine."""

    port: int
    popen: subprocess.Popen[bytes]
    log: Path

    def reload(self) -> None:
        """`nginx -s reload`, as a signal to the process that was started here."""
        self.popen.send_signal(signal.SIGHUP)


_NGINX = """
daemon off;
{user}
pid {tmp}/nginx.pid;
error_log stderr info;
worker_processes 2;
worker_shutdown_timeout 30s;
events {{}}
http {{
    default_type application/octet-stream;
    types {{ text/html html; text/x-wrong bin txt csv; }}
    gzip on;
    log_format told "$status|$upstream_addr|$http_x_request_id";
    access_log {tmp}/access.log told;
    client_body_temp_path {tmp}/body;
    proxy_temp_path {tmp}/proxy;
    fastcgi_temp_path {tmp}/fastcgi;
    uwsgi_temp_path {tmp}/uwsgi;
    scgi_temp_path {tmp}/scgi;
    include {tmp}/workspace-gateway.conf;
}}
"""


def _write(source: Path, target: Path, changes: Mapping[str, str]) -> None:
    """Copy a shipped file; what is to be changed must stand in it."""
    text = source.read_text()
    for old, new in changes.items():
        assert old in text, f"{source} has no {old!r}"
        text = text.replace(old, new)
    target.write_text(text)


@contextmanager
def nginx(tmp: Path, gateway: Where, offload_root: Path | None = None) -> Iterator[Proxy]:
    """nginx before the gateway there, or two of them; with *offload_root* it sends files."""
    program = needs.program("nginx")
    port = free_port()
    tmp.mkdir()
    changes = {
        f"server unix:{_SOCKET};": _upstream(tmp, gateway),
        "listen 80;": f"listen 127.0.0.1:{port};",
    }
    if offload_root is not None:
        snippet = "include /etc/nginx/snippets/workspace-gateway-offload.conf;"
        changes[f"# {snippet}"] = f"include {tmp}/offload.conf;"
        roots = {"/mnt/sessions": str(offload_root)}
        _write(DEPLOY / "nginx/workspace-gateway-offload.conf", tmp / "offload.conf", roots)
    _write(DEPLOY / "nginx/workspace-gateway.conf", tmp / "workspace-gateway.conf", changes)
    # Its workers become nobody otherwise, who may not enter pytest's directories.
    user = "user root;" if os.geteuid() == 0 else ""
    (tmp / "nginx.conf").write_text(_NGINX.format(user=user, tmp=tmp))
    arguments = [program, "-p", str(tmp), "-e", "stderr", "-c", str(tmp / "nginx.conf")]
    with _running(arguments, port, tmp / "error.log", {}) as proxy:
        yield proxy


def _upstream(tmp: Path, gateway: Where) -> str:
    match gateway:
        case str():
            return f"server unix:{gateway};"
        case int():
            return f"server 127.0.0.1:{gateway};"
    ports = {old: f"127.0.0.1:{port}" for old, port in zip(_SEVERAL, gateway, strict=True)}
    _write(DEPLOY / "nginx/workspace-gateway-several.conf", tmp / "several.conf", ports)
    return f"include {tmp}/several.conf;"


@contextmanager
def caddy(tmp: Path, gateway: str | int) -> Iterator[Proxy]:
    """Caddy before the gateway on that unix socket or port."""
    program = needs.program("caddy")
    port = free_port()
    tmp.mkdir()
    where = f"unix/{gateway}" if isinstance(gateway, str) else f"127.0.0.1:{gateway}"
    changes = {
        f"unix/{_SOCKET}": where,
        ":80 {": f":{port} {{\n\tbind 127.0.0.1",
        "admin localhost:2019": "admin off\n\tauto_https off",
    }
    _write(DEPLOY / "caddy/Caddyfile", tmp / "Caddyfile", changes)
    arguments = [program, "run", "--config", str(tmp / "Caddyfile"), "--adapter", "caddyfile"]
    home = {"HOME": str(tmp), "XDG_DATA_HOME": str(tmp), "XDG_CONFIG_HOME": str(tmp)}
    with _running(arguments, port, tmp / "caddy.log", home) as proxy:
        yield proxy


@contextmanager
def _running(
    arguments: list[str], port: int, log: Path, environment: Mapping[str, str]
) -> Iterator[Proxy]:
    with log.open("wb") as output:
        popen = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
        )
    try:
        _wait(popen, port, log)
        yield Proxy(port, popen, log)
    finally:
        popen.terminate()
        try:
            popen.wait(15)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()


def _wait(popen: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + 15
    while time.monotonic() < end:
        assert popen.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.02)
    raise AssertionError("not ready: " + log.read_text())
