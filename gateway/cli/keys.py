"""`workspace-gateway keys`: makes keys and digests; nothing is stored, the config is yours."""

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime

import click
from pydantic import ValidationError

from gateway.auth.api_key import digest, is_mistyped, new_key
from gateway.config.model import Key
from gateway.config.wording import say
from gateway.config.written_yaml import written
from gateway.domain.model import Scope

_MOST_BYTES = 64 * 1024


@click.group()
def keys() -> None:
    """Make API keys, or hash those you have."""


@keys.command(
    epilog="""\b
Examples:
  workspace-gateway keys create --id ci --org acme --scope files:read
  workspace-gateway keys create --id ana --org acme --scope files:read --scope sessions:read \\
      --sessions 'team-*' --expires 2027-01-31
  KEY=$(workspace-gateway keys create -q --id ci --org acme --scope files:read)
"""
)
@click.option("--id", "key_id", required=True, help="Its name in logs: A-Z a-z 0-9 . _ -")
@click.option("--org", required=True, help="Whose key it is.")
@click.option(
    "--scope",
    "scopes",
    required=True,
    multiple=True,
    type=click.Choice([str(scope) for scope in Scope]),
    help="What it may do; may be repeated.",
)
@click.option(
    "--sessions",
    multiple=True,
    default=["*"],
    show_default=True,
    metavar="PATTERN",
    help="Which sessions exist for it, as a shell pattern; may be repeated.",
)
@click.option("--expires", metavar="DATE", help="When it ends, in UTC unless DATE says otherwise.")
@click.option("-q", "--quiet", is_flag=True, help="Print the key and nothing else.")
def create(
    key_id: str,
    org: str,
    scopes: tuple[str, ...],
    sessions: tuple[str, ...],
    expires: str | None,
    quiet: bool,
) -> None:
    """Make a key and print it, once.

    The key goes to standard output; the lines for the config, which hold its digest only, go to
    standard error.
    """
    key = new_key(key_id)
    entry = {
        "id": key_id,
        "org": org,
        "sha256": digest(key).hex(),
        "scopes": scopes,
        "sessions": sessions,
        "expires": _moment(expires) if expires else None,
    }
    lines = written({"auth": {"keys": [_usable(entry)]}})
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
    if sys.stdin.isatty():
        key = click.prompt("Key", hide_input=True, err=True).encode()
    else:
        key = sys.stdin.buffer.read(_MOST_BYTES + 1)
        if len(key) > _MOST_BYTES:
            raise click.UsageError(f"standard input holds more than {_MOST_BYTES} bytes: not a key")
        key = key.rstrip(b"\r\n")
    if not key or b"\n" in key:
        raise click.UsageError("standard input must hold one key, on one line")
    if is_mistyped(key):
        raise click.UsageError("this key is mistyped or cut off: its checksum does not match")
    click.echo(digest(key).hex())


def _moment(text: str) -> str:
    """Return *text* as the config wants it: with a time and a zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"--expires: {text!r} is not a date such as 2027-01-31") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment <= datetime.now(UTC):
        raise click.UsageError(f"--expires: {text} is in the past")
    return moment.isoformat()


def _usable(entry: Mapping[str, object]) -> dict[str, object]:
    """Return *entry* as the config writes it; the config has the last word on what a key is."""
    try:
        key = Key.model_validate_json(json.dumps(entry), strict=True)
    except ValidationError as exc:
        errors = exc.errors(include_url=False)
        said = [f"--{error['loc'][0]}: {say(error, Key, None)}" for error in errors]
        raise click.UsageError("\n".join(said)) from None
    return key.model_dump(mode="json", exclude_none=True)
