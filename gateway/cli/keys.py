"""`workspace-gateway keys`: keys for the config, which is yours, or kept in the store it names."""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime

import click

from gateway.auth.api_key import digest, new_key
from gateway.cli.config_file import read_config
from gateway.cli.config_store import in_store, leave
from gateway.cli.exits import Exit
from gateway.cli.key_entry import Command, grant, key_of_stdin, usable
from gateway.config.model import Key
from gateway.config.written_yaml import written
from gateway.domain.records import StoredKey


@click.group(
    epilog="""\b
Examples:
  workspace-gateway keys create --id ci --org acme --scope files:read
  workspace-gateway keys revoke --config gateway.yaml ci
"""
)
def keys() -> None:
    """Make API keys, keep or end them, or hash those you have."""


def _store_option(help_text: str, *, required: bool = True) -> Callable[[Command], Command]:
    return click.option("--config", "file", metavar="FILE", required=required, help=help_text)


@keys.command(
    epilog="""\b
Examples:
  workspace-gateway keys create --config gateway.yaml --id ci --org acme --scope files:read
  workspace-gateway keys create --id ci --org acme --scope files:read
  workspace-gateway keys create --id ana --org acme --scope files:read --scope sessions:read \\
      --sessions 'team-*' --expires 2027-01-31
  KEY=$(workspace-gateway keys create -q --id ci --org acme --scope files:read)
"""
)
@grant
@_store_option("Keep it in this config's store, instead of printing lines.", required=False)
@click.option("-q", "--quiet", is_flag=True, help="Print the key and nothing else.")
def create(
    key_id: str,
    org: str,
    scopes: tuple[str, ...],
    sessions: tuple[str, ...],
    expires: str | None,
    file: str | None,
    quiet: bool,
) -> None:
    """Make a key and print it, once.

    The key goes to standard output. Its digest, which is all that a gateway needs, is kept in the
    store of the config; without one, the lines for a config go to standard error.
    """
    key = new_key(key_id)
    entry = usable(key_id, org, digest(key), scopes, sessions, expires)
    if file is not None:
        _keep(file, entry)
        click.echo(key)
        return
    lines = written({"auth": {"keys": [entry.model_dump(mode="json", exclude_none=True)]}})
    if quiet:
        click.echo(key)
        return
    click.secho("The key, shown this once; it is stored nowhere:", bold=True, err=True)
    click.echo(key)
    click.secho("Put this into the config:", bold=True, err=True)
    click.echo(lines, nl=False, err=True)


@keys.command(
    "hash",
    epilog="""\b
Examples:
  workspace-gateway keys hash                   # asks for the key, without showing it
  workspace-gateway keys hash < key.txt
  printf %s "$KEY" | workspace-gateway keys hash
""",
)
def hash_() -> None:
    """Print the SHA-256 of a key you have, such as an imported `sk_...`, for the config.

    The key is read from standard input, never from the command line, where others can see it.
    """
    click.echo(digest(key_of_stdin()).hex())


@keys.command(
    "import",
    epilog="""\b
Examples:
  workspace-gateway keys import --config gateway.yaml --id old --org acme --scope files:read < key
""",
)
@grant
@_store_option("The config whose store keeps it.")
def import_(
    key_id: str,
    org: str,
    scopes: tuple[str, ...],
    sessions: tuple[str, ...],
    expires: str | None,
    file: str,
) -> None:
    """Keep a key you have, such as a `sk_...`, in the store; it works as it is.

    It is read from standard input, never from the command line, where others can see it.
    """
    _keep(file, usable(key_id, org, digest(key_of_stdin()), scopes, sessions, expires))


@keys.command(
    "list",
    epilog="""\b
Examples:
  workspace-gateway keys list --config gateway.yaml
  workspace-gateway keys list --config gateway.yaml --org acme --json
""",
)
@_store_option("The config whose store has them.")
@click.option("--org", help="Only of this organisation.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_(file: str, org: str | None, as_json: bool) -> None:
    """Print the keys in the store, and when each was last used; never a key itself."""
    for key in in_store(read_config(file), lambda store: store.keys.all(org)):
        click.echo(_json(key) if as_json else _line(key))


@keys.command(
    epilog="""\b
Examples:
  workspace-gateway keys revoke --config gateway.yaml ci
"""
)
@_store_option("The config whose store has it.")
@click.argument("key_id")
def revoke(file: str, key_id: str) -> None:
    """Stop a key for good, within a second. Exits with 4 if there is no such good key."""
    if not in_store(read_config(file), lambda store: store.keys.revoke(key_id)):
        leave("key not found, or revoked before", Exit.NOT_FOUND)


@keys.command(
    epilog="""\b
Examples:
  workspace-gateway keys rotate --config gateway.yaml ci
"""
)
@_store_option("The config whose store has it.")
@click.argument("key_id")
def rotate(file: str, key_id: str) -> None:
    """Give a key a new secret and print it, once; the old one ends within a second.

    Exits with 4 if there is no such good key.
    """
    key = new_key(key_id)
    if not in_store(read_config(file), lambda store: store.keys.rotate(key_id, digest(key))):
        leave("key not found, or revoked", Exit.NOT_FOUND)
    click.echo(key)


def _keep(file: str, entry: Key) -> None:
    key = StoredKey(
        id=entry.id,
        org=entry.org,
        digest=bytes.fromhex(entry.sha256),
        scopes=frozenset(entry.scopes),
        created_at=datetime.now(UTC),
        sessions=entry.sessions,
        expires_at=entry.expires,
    )
    in_store(read_config(file), lambda store: store.keys.create(key))


def _line(key: StoredKey) -> str:
    state = "revoked" if key.revoked_at else "good"
    used = f"{key.last_used_at:%Y-%m-%d}" if key.last_used_at else "never"
    return f"{key.id}  {key.org}  {state}  used {used}  {' '.join(sorted(key.scopes))}"


def _json(key: StoredKey) -> str:
    values = {**asdict(key), "scopes": sorted(key.scopes), "digest": key.digest.hex()}
    return json.dumps(values, default=datetime.isoformat)
