"""`workspace-gateway demo`: the gateway on a sample workspace, with commands ready to paste."""

import fcntl
import os
import shlex
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import click

from gateway.auth.api_key import new_key
from gateway.cli.config_file import refuse
from gateway.cli.config_store import in_store
from gateway.cli.first_start import config_for_root, key_entry
from gateway.cli.sample import write_sample
from gateway.config.errors import ConfigError
from gateway.config.store_url import sqlite_url
from gateway.domain.model import SessionId
from gateway.domain.records import Session

_HOST = "127.0.0.1"
_SCOPES = ["files:read", "archives:read", "sessions:read", "sessions:write", "links:write"]
_SESSION = Session(
    SessionId("sess_123"),
    "default",
    datetime(2026, 3, 31, 18, 40, tzinfo=UTC),
    agent_id="agt_123",
    version_id="ver_9",
)
# Not `--json`, which curl has had since 7.82 only.
_TRIAL = """-H 'Content-Type: application/json' -d '{"metadata": {"kind": "trial"}}'"""
_MARK = ".made-by-workspace-gateway-demo"
_WORKSPACES, _SPOOL, _STATE = "workspaces", "spool", "state"


@click.command(
    epilog="""\b
Examples:
  workspace-gateway demo
  workspace-gateway demo --port 9000
  WORKSPACE_GATEWAY_KEY=sk_test_123456 workspace-gateway demo
"""
)
@click.option(
    "--port",
    default=8080,
    show_default=True,
    type=click.IntRange(1, 65534),
    help="Where to listen; the port after it serves metrics.",
)
@click.option(
    "--dir",
    "directory",
    default=".demo",
    show_default=True,
    metavar="DIR",
    help="Where the sample goes; it is removed at the end.",
)
def demo(port: int, directory: str) -> int:
    """Run the gateway on a sample workspace.

    The key is a new one each time, or the one in WORKSPACE_GATEWAY_KEY. Only this machine can
    reach the gateway. Ctrl-C ends it and removes the sample.
    """
    key = os.environ.get("WORKSPACE_GATEWAY_KEY") or new_key("demo")
    _need_free(port, port + 1)
    with _sample(directory):
        return _serve(directory, port, key)


def _serve(directory: str, port: int, key: str) -> int:
    # Imported here: it brings the whole gateway along, which `demo --help` can do without.
    from gateway.cli.serve import run

    changes: dict[str, dict[str, object]] = {
        "server": {"port": port, "admin": {"host": _HOST, "port": port + 1}, "grace": "0s"},
        "spool": {"dir": os.path.join(directory, _SPOOL)},
        "agents": {"agt_123": {"version": "ver_9", "sandbox": {"secrets": ["GITHUB_TOKEN"]}}},
        "store": {"url": sqlite_url(os.path.join(directory, _STATE, "gateway.db"))},
    }
    root = os.path.join(directory, _WORKSPACES)
    try:
        entry = {**key_entry("demo", key), "scopes": _SCOPES}
        config = config_for_root(root, [entry], changes)
    except ConfigError as exc:
        refuse(exc)
    in_store(config, lambda store: store.sessions.create(_SESSION))
    return run(config, on_ready=lambda: click.echo(_welcome(port, key)))


def _welcome(port: int, key: str) -> str:
    header = f"-H {shlex.quote(f'X-API-Key: {key}')}"
    base = f"http://{_HOST}:{port}"
    session = f"{base}/api/v1/sessions/demo"
    files, archive = f"{session}/files", f"{session}/archive"
    return f"""
The gateway listens on {base}. Ctrl-C ends it. Paste these into another terminal:

# a listing, and everything below it
curl {header} '{files}'
curl {header} '{files}?recursive=true'

# one file
curl {header} '{files}/output/results.csv'

# a download that was cut off after 100 bytes, and goes on from there
curl {header} -r 0-99 -o chart.png '{files}/output/chart.png'
curl {header} -C - -o chart.png '{files}/output/chart.png'

# everything as one zip file; cut off, and gone on from there, too
curl {header} -o workspace.zip '{archive}'
curl {header} -r 0-99 -o again.zip '{archive}'
curl {header} -C - -o again.zip '{archive}'

# the same as Dari's clients and Blackbox's ask for it: one directory, or a tarball
curl {header} -OJ '{base}/v1/sessions/demo/workspace.zip?path=output'
curl {header} -OJ '{base}/api/v1/tasks/demo/files/download?format=tar'

# a new session of an agent, as Dari's clients make it; and all of them
curl {header} {_TRIAL} '{base}/v1/agents/agt_123/sessions'
curl {header} '{base}/v1/sessions?metadata.kind=trial'

# is it ready, and what has it done
curl '{base}/readyz'
curl 'http://{_HOST}:{port + 1}/metrics'
"""


def _need_free(*ports: int) -> None:
    """Leave with one line of advice if a port is taken."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, port))
            except OSError as exc:
                other = 9000 if ports[0] < 9000 else 8000
                message = f"port {port}: {exc.strerror}; try another: make demo PORT={other}"
                raise _failed(message) from exc


@contextmanager
def _sample(directory: str) -> Iterator[None]:
    """Make a sample below *directory*, and remove at the end what was made there."""
    root, *others = (os.path.join(directory, name) for name in (_WORKSPACES, _SPOOL, _STATE))
    mark = os.path.join(directory, _MARK)
    try:
        made = _claim(directory)
        lock = open(mark, "w", encoding="utf-8")  # noqa: SIM115  # closed by the block below
    except OSError as exc:
        raise _failed(f"{directory}: {exc.strerror}") from exc
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise _failed(f"{directory}: another demo uses it; try demo --dir NAME") from exc
        try:
            for made_there in (root, *others):  # what a demo that was killed has left
                shutil.rmtree(made_there, ignore_errors=True)
            write_sample(root)
            yield
        finally:
            for made_there in (root, *others):
                with suppress(FileNotFoundError):  # interrupted before anything was written
                    shutil.rmtree(made_there)
            os.unlink(mark)
            if made:
                os.rmdir(directory)


def _claim(directory: str) -> bool:
    """Make the directory if it is not there; whether this demo, or one that was killed, made it.

    A directory that holds anything else is refused: nobody's files are to be removed.
    """
    if not os.path.lexists(directory):
        os.mkdir(directory)
        return True
    names = os.listdir(directory)
    if (names and _MARK not in names) or set(names) - {_MARK, _WORKSPACES, _SPOOL, _STATE}:
        raise _failed(f"{directory}: holds other files; try demo --dir NAME")
    return bool(names)


def _failed(message: str) -> click.ClickException:
    return click.ClickException(message)  # whose exit code is 1, `Exit.FAILED`
