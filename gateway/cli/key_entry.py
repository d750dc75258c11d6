"""What a key is to be, as options and standard input say it."""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

import click
from pydantic import ValidationError

from gateway.auth.api_key import is_mistyped
from gateway.config.model import Key
from gateway.config.wording import say
from gateway.domain.model import Scope

_MOST_BYTES = 64 * 1024

_OPTIONS = (
    click.option("--id", "key_id", required=True, help="Its name in logs: A-Z a-z 0-9 . _ -"),
    click.option("--org", required=True, help="Whose key it is."),
    click.option(
        "--scope",
        "scopes",
        required=True,
        multiple=True,
        type=click.Choice([str(scope) for scope in Scope]),
        help="What it may do; may be repeated.",
    ),
    click.option(
        "--sessions",
        multiple=True,
        default=["*"],
        show_default=True,
        metavar="PATTERN",
        help="Which sessions exist for it, as a shell pattern; may be repeated.",
    ),
    click.option("--expires", metavar="DATE", help="When it ends; in UTC unless said."),
)

Command = TypeVar("Command", bound=Callable[..., None])


def grant(command: Command) -> Command:
    """The options that say whose a key is, and what it may do."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def key_of_stdin() -> bytes:
    """The one line of standard input; asked for, without showing it, at a terminal."""
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
    return key


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


def usable(
    key_id: str,
    org: str,
    key_digest: bytes,
    scopes: tuple[str, ...],
    sessions: tuple[str, ...],
    expires: str | None,
) -> Key:
    """The key as the config writes it, which has the last word on what a key is."""
    entry = {
        "id": key_id,
        "org": org,
        "sha256": key_digest.hex(),
        "scopes": scopes,
        "sessions": sessions,
        "expires": _moment(expires) if expires else None,
    }
    try:
        return Key.model_validate_json(json.dumps(entry), strict=True)
    except ValidationError as exc:
        errors = exc.errors(include_url=False)
        said = [f"--{error['loc'][0]}: {say(error, Key, None)}" for error in errors]
        raise click.UsageError("\n".join(said)) from None
