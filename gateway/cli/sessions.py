"""`workspace-gateway sessions`: the sessions that are registered in the store of a config."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

import click

from gateway.cli.config_file import config_option, read_config
from gateway.cli.config_store import in_store, leave
from gateway.cli.exits import Exit
from gateway.domain.errors import BadSessionId
from gateway.domain.model import SessionId, parse_session_id
from gateway.domain.records import Session
from gateway.service.provisioning import new_session_id
from gateway.service.sessions import WAITING
from gateway.store.base import Store

_PAGE = 200

org_option = click.option("--org", required=True, help="Whose session it is.")
metadata_option = click.option(
    "--metadata", "pairs", multiple=True, metavar="KEY=VALUE", help="May be repeated."
)


@click.group(
    epilog="""\b
Examples:
  workspace-gateway sessions create --config gateway.yaml --org acme --id run-7
  workspace-gateway sessions list --config gateway.yaml --org acme
"""
)
def sessions() -> None:
    """Register sessions, or forget them."""


@sessions.command(
    epilog="""\b
Examples:
  workspace-gateway sessions create --config gateway.yaml --org acme
  workspace-gateway sessions create --config gateway.yaml --org acme --id run-7 \\
      --external-id 5f3c --metadata kind=nightly
  workspace-gateway sessions create --config gateway.yaml --org acme --executor edge --workspace 42
"""
)
@config_option
@org_option
@click.option("--id", "session_id", help="Its id; else a new one that begins with sess_.")
@click.option("--external-id", help="Another id for it, unique in the organisation.")
@click.option("--name", help="What people call it.")
@click.option("--executor", help="Which executor has its workspace; else placement says it.")
@click.option("--workspace", help="What the executor calls the workspace; else as the session.")
@metadata_option
def create(
    file: str | None,
    org: str,
    session_id: str | None,
    external_id: str | None,
    name: str | None,
    executor: str | None,
    workspace: str | None,
    pairs: Sequence[str],
) -> None:
    """Register a session and print its id.

    Its workspace is not made: the session waits for it until somebody reads it.
    """
    config = read_config(file)
    if executor is not None and executor not in config.executors:
        raise click.UsageError(f"--executor: no executor {executor!r} in the config")
    session = Session(
        id=new_session_id() if session_id is None else _id("--id", session_id),
        org=org,
        created_at=datetime.now(UTC),
        status=WAITING,
        external_id=None if external_id is None else _id("--external-id", external_id),
        name=name,
        metadata=_metadata(pairs),
        executor=executor,
        workspace=workspace,
    )
    in_store(config, lambda store: store.sessions.create(session))
    click.echo(session.id)


@sessions.command(
    "list",
    epilog="""\b
Examples:
  workspace-gateway sessions list --config gateway.yaml --org acme
  workspace-gateway sessions list --config gateway.yaml --org acme --metadata kind=nightly --json
""",
)
@config_option
@org_option
@metadata_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_(file: str | None, org: str, pairs: Sequence[str], as_json: bool) -> None:
    """Print the sessions of an organisation, newest first."""
    metadata = _metadata(pairs)

    async def read(store: Store) -> None:
        cursor = None
        while True:
            page = await store.sessions.page(org, limit=_PAGE, cursor=cursor, metadata=metadata)
            for session in page.sessions:
                click.echo(_json(session) if as_json else _line(session))
            cursor = page.next_cursor
            if cursor is None:
                return

    in_store(read_config(file), read)


@sessions.command(
    epilog="""\b
Examples:
  workspace-gateway sessions show --config gateway.yaml run-7
  workspace-gateway sessions show --config gateway.yaml --org acme 5f3c
"""
)
@config_option
@click.option("--org", help="Whose session it is, where an external id is given.")
@click.argument("session_id")
def show(file: str | None, org: str | None, session_id: str) -> None:
    """Print a session as JSON. Exits with 4 if there is none."""
    session = in_store(read_config(file), lambda store: store.sessions.find(session_id, org or ""))
    if session is None or org not in (None, session.org):
        leave("session not found", Exit.NOT_FOUND)
    click.echo(_json(session, indent=2))


@sessions.command(
    epilog="""\b
Examples:
  workspace-gateway sessions delete --config gateway.yaml run-7
"""
)
@config_option
@click.argument("session_id")
def delete(file: str | None, session_id: str) -> None:
    """Forget a session, its links and its events. Exits with 4 if there is none.

    The files of its workspace stay where they are, but nobody gets them until they are registered
    again.
    """
    known = _id("SESSION_ID", session_id)
    if not in_store(read_config(file), lambda store: store.sessions.delete(known)):
        leave("session not found", Exit.NOT_FOUND)


def _id(option: str, text: str) -> SessionId:
    try:
        return parse_session_id(text)
    except BadSessionId:
        message = f"{option}: must be 1 to 128 of A-Z a-z 0-9 _ -, the first a letter or digit"
        raise click.UsageError(message) from None


def _metadata(pairs: Sequence[str]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals) or name in found:
            raise click.UsageError(f"--metadata: {pair!r} must be KEY=VALUE, each KEY once")
        found[name] = value
    return found


def _line(session: Session) -> str:
    created = f"{session.created_at:%Y-%m-%dT%H:%M:%SZ}"
    texts = (session.id, session.external_id or "-", session.status, created, session.name or "")
    # Names are their creators': they must not speak to the terminal.
    return "  ".join(text if text.isprintable() else ascii(text) for text in texts).rstrip()


def _json(session: Session, indent: int | None = None) -> str:
    return json.dumps(asdict(session), indent=indent, default=datetime.isoformat)
