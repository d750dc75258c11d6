"""`workspace-gateway sidecar`: the gateway as another gateway's executor, on a sandbox host."""

import os
import stat
from functools import partial

import click

from gateway.auth.api_key import digest
from gateway.cli.config_file import ExecutorModels, refuse
from gateway.config.errors import ConfigError, Problem
from gateway.config.load import default_data, from_mapping
from gateway.config.model import Config
from gateway.config.secret import one_line
from gateway.config.store_url import IN_MEMORY
from gateway.listeners import parse_address

_SHORTEST_TOKEN = 16  # characters
_ANYBODY = stat.S_IROTH | stat.S_IWOTH


@click.command(
    epilog="""\b
Examples:
  workspace-gateway sidecar --root /mnt/sessions --token-file /run/secrets/sidecar
  workspace-gateway sidecar --root /mnt/sessions --token-file token --listen unix:/run/sidecar.sock
  workspace-gateway sidecar --root /workspaces --token-file token --listen vsock:52
\b
A token:
  (umask 077; workspace-gateway keys create -q --id edge --org edge --scope files:read > token)
"""
)
@click.option("--root", required=True, metavar="DIR", help="Every directory in it is a session.")
@click.option(
    "--listen",
    default="tcp:127.0.0.1:8081",
    show_default=True,
    metavar="ADDRESS",
    help="tcp:HOST:PORT, unix:PATH (of mode 0660) or vsock:PORT.",
)
@click.option(
    "--token-file",
    required=True,
    metavar="FILE",
    help="What the gateway has to present; SIGHUP reads it again.",
)
def sidecar(root: str, listen: str, token_file: str) -> int:
    """Serve the workspaces of this host to a gateway.

    That gateway asks by an executor of type `gateway`. A sidecar is a gateway itself, with the
    default limits, whatever the other one's are, and one key, the token. How many requests a client
    may make is counted over there, and who presents a wrong token is not throttled.
    """
    try:
        address = parse_address(listen)
    except ValueError as exc:
        raise click.UsageError(f"--listen: {exc}") from None
    read = partial(config_for_sidecar, root, token_file)
    try:
        config = read()
    except ConfigError as exc:
        refuse(exc)
    # Imported here: it brings the whole gateway along, which `sidecar --help` can do without.
    from gateway.cli.serve import run

    return run(config, reload=read, listen=address)


def config_for_sidecar(root: str, token_file: str) -> Config:
    """The config of a sidecar; raise `ConfigError`."""
    data = default_data()
    entry = {
        "id": "gateway",
        "org": "default",
        "sha256": digest(_token(token_file)).hex(),
        "scopes": ["sessions:read", "sessions:write", "files:read", "archives:read"],
    }
    sections: dict[str, dict[str, object]] = {
        "auth": {"keys": [entry]},
        # A proxy, a mesh or the sandbox may share the gateway's address, or there is none at all:
        # whoever fails there would lock the gateway out, too. Tokens are too long to be guessed.
        "limits": {
            "requests_per_minute": 0,
            "requests_at_once": 0,
            "auth_failures_per_minute": 0,
        },
        "executors": {"local": {"type": "local", "root": root}},
        # Whose sessions these are, the gateway knows.
        "store": {"url": IN_MEMORY},
    }
    for name, values in sections.items():
        section = data[name]
        assert isinstance(section, dict)
        section.update(values)
    return from_mapping(data, ExecutorModels(), f"sidecar --root {root}")


def _token(file: str) -> str:
    try:
        with open(file, encoding="utf-8", errors="replace") as opened:
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            text = opened.read(64 * 1024)
    except OSError as exc:
        raise _unusable(file, f"cannot be read: {exc.strerror}") from exc
    if mode & _ANYBODY:
        raise _unusable(file, f"everybody on this host may use it (mode {mode:04o}); chmod 600 it")
    try:
        token = one_line(text, "it")
    except ValueError as exc:
        raise _unusable(file, str(exc)) from None
    if len(token) < _SHORTEST_TOKEN:
        raise _unusable(file, f"must hold at least {_SHORTEST_TOKEN} characters")
    return token


def _unusable(file: str, why: str) -> ConfigError:
    return ConfigError([Problem(file, None, (), why)])
