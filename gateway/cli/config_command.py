"""`workspace-gateway config`: what a config may say, what one does say, and one to start from."""

import json

import click
from pydantic import BaseModel

from gateway.cli.config_file import ExecutorModels, config_option, read_config
from gateway.config.load import default_text
from gateway.config.model import config_model
from gateway.config.written_yaml import written

_DIGITS_SHOWN = 8


@click.group(
    epilog="""\b
Examples:
  workspace-gateway config init > gateway.yaml
  workspace-gateway config show --config gateway.yaml
"""
)
def config() -> None:
    """Print the schema, a config, a start."""


@config.command(
    epilog="""\b
Examples:
  workspace-gateway config schema > gateway.schema.json
  # then, in the first line of the config, for editors with a YAML language server:
  # yaml-language-server: $schema=gateway.schema.json
  workspace-gateway config schema --profile > profile.schema.json
"""
)
@click.option("--profile", is_flag=True, help="Of the profile of an http_profile executor.")
def schema(profile: bool) -> None:
    """Print the JSON Schema of the config, for editors."""
    click.echo(json.dumps(_schema_model(profile).model_json_schema(), indent=2))


@config.command(
    epilog="""\b
Examples:
  workspace-gateway config show --config gateway.yaml
"""
)
@config_option
def show(file: str | None) -> None:
    """Print the config in force: defaults filled in, variables replaced, secrets redacted."""
    data = read_config(file).model_dump(mode="json", by_alias=True)
    for key in data["auth"]["keys"]:
        key["sha256"] = f"{key['sha256'][:_DIGITS_SHOWN]}…"
    if data["server"]["socket"] is not None:
        del data["server"]["host"], data["server"]["port"]  # not in force, and not to be read back
    click.echo(written(data), nl=False)


@config.command(
    epilog="""\b
Examples:
  workspace-gateway config init > gateway.yaml
"""
)
def init() -> None:
    """Print the annotated default, to start a config from."""
    click.echo(default_text(), nl=False)


def _schema_model(profile: bool) -> type[BaseModel]:
    if not profile:
        return config_model(ExecutorModels())
    # Here, because the other commands need not wait for an HTTP client to be imported.
    from gateway.executors.http_profile.profile import Profile

    return Profile
