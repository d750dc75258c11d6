"""The peers that pass on what another server reads, whose processes are not counted."""

import contextlib
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager

from tests.benchmarks.peers import (
    KEY,
    PYTHON,
    Bench,
    gateway_with,
    go_with,
    listen,
    nginx_command,
    site,
)
from tests.benchmarks.processes import HOST, Address, Server, running, serving
from tests.ports import free_port


@contextlib.contextmanager
def gateway_proxied(bench: Bench) -> Iterator[Server]:
    """Serve with a gateway that asks a sidecar on a port."""
    name, port = "gateway-proxied", free_port()
    edge = _edge(bench, name, f"http://{HOST}:{port}")
    with (
        _sidecar(bench, name, f"tcp:{HOST}:{port}", port),
        gateway_with(bench, name, edge) as server,
    ):
        yield server


@contextlib.contextmanager
def gateway_unix(bench: Bench) -> Iterator[Server]:
    """Serve with a gateway that asks a sidecar on a unix socket."""
    name = "gateway-unix"
    path = bench.directory(name) / "sidecar.sock"
    edge = _edge(bench, name, f"unix://{path}")
    with _sidecar(bench, name, f"unix:{path}", path), gateway_with(bench, name, edge) as server:
        yield server


@contextlib.contextmanager
def nginx_proxied(bench: Bench) -> Iterator[Server]:
    """Serve with nginx' `proxy_pass` as it is by default, before an nginx on a port."""
    behind, port = free_port(), free_port()
    with (
        _nginx_files(bench, "nginx-proxied-files", listen(behind), behind),
        _nginx_proxy(bench, "nginx-proxied", "proxy", port, f"{HOST}:{behind}") as server,
    ):
        yield server


@contextlib.contextmanager
def nginx_unix(bench: Bench) -> Iterator[Server]:
    """Serve with nginx' `proxy_pass` over kept connections, before an nginx on a unix socket."""
    port, path = free_port(), bench.directory("nginx-unix-files") / "files.sock"
    path.unlink(missing_ok=True)  # an nginx that was killed has left it, and would not start again
    with (
        _nginx_files(bench, "nginx-unix-files", f"unix:{path} backlog=4096", path),
        _nginx_proxy(bench, "nginx-unix", "proxy-kept", port, f"unix:{path}") as server,
    ):
        yield server


@contextlib.contextmanager
def go_proxied(bench: Bench) -> Iterator[Server]:
    """Serve with `httputil.ReverseProxy`, before the Go peer that serves files."""
    with (
        go_with(bench, "go-proxied-files", "-root", str(bench.corpus.root)) as files,
        go_with(bench, "go-proxied", "-upstream", files.url) as server,
    ):
        yield server


def _edge(bench: Bench, name: str, url: str) -> str:
    """Return a chain whose second executor has nothing: an answer of its own would be a 404."""
    empty = bench.directory(f"{name}-empty")
    edge = f'{{type: gateway, url: "{url}", token: {{file: {_token(bench)}}}}}'
    return (
        f"executors: {{edge: {edge}, local: {{type: local, root: {empty}}}}}\n"
        "placement: {default: {executor: edge, fallback: [local]}}\n"
    )


def _token(bench: Bench) -> str:
    file = bench.directory("sidecar") / "token"
    file.touch(mode=0o600)
    file.write_text(KEY)
    return str(file)


def _sidecar(
    bench: Bench, name: str, address: str, answers: Address
) -> AbstractContextManager[int]:
    command = [sys.executable, "-m", "gateway", "sidecar", "--root", str(bench.corpus.root)]
    command += ["--listen", address, "--token-file", _token(bench)]
    log, name = bench.log(f"{name}-sidecar"), f"the sidecar of {name}"
    return running(name, command, address=answers, log=log, env=PYTHON)


def _nginx_files(
    bench: Bench, name: str, listening: str, address: Address
) -> AbstractContextManager[int]:
    text = site("files", listening, ROOT=bench.corpus.root)
    command = nginx_command(bench, name, text)
    return running(name, command, address=address, log=bench.log(name))


def _nginx_proxy(
    bench: Bench, name: str, template: str, port: int, upstream: str
) -> AbstractContextManager[Server]:
    command = nginx_command(bench, name, site(template, listen(port), UPSTREAM=upstream))
    return serving(name, command, port=port, log=bench.log(name))
