"""The command line `workspace-gateway`; each command is a module beside this one."""

import os

import click

from gateway.cli.lazy import LazyGroup, Table

COMMANDS: Table = {
    "serve": ("gateway.cli.serve:serve", "Run the gateway."),
    "sidecar": ("gateway.cli.sidecar:sidecar", "Serve the workspaces of this host to a gateway."),
    "demo": ("gateway.cli.demo:demo", "Run the gateway on a sample workspace."),
    "check": ("gateway.cli.check:check", "Report every problem of a config."),
    "config": ("gateway.cli.config_command:config", "Print the schema, a config, a start."),
    "keys": (
        "gateway.cli.keys:keys",
        "Make API keys, keep or end them, or hash those you have.",
    ),
    "sessions": ("gateway.cli.sessions:sessions", "Register sessions, or forget them."),
}


@click.group(
    cls=LazyGroup,
    table=COMMANDS,
    epilog="""\b
Examples:
  workspace-gateway serve --root ./workspaces
  workspace-gateway sidecar --root /mnt/sessions --token-file token
  workspace-gateway check --config gateway.yaml
\b
Exit codes:
  0 ok, 1 failed, 2 usage or unusable config, 3 credentials, 4 not found,
  5 backend unavailable, 6 integrity, 130 interrupted
\b
Shell completion (bash; also zsh_source, fish_source):
  eval "$(_WORKSPACE_GATEWAY_COMPLETE=bash_source workspace-gateway)"
""",
)
@click.version_option(package_name="workspace-gateway", prog_name="workspace-gateway")
@click.pass_context
def main(ctx: click.Context) -> None:
    """One safe HTTP front door to the files that AI agents leave in their sandboxes."""
    if os.environ.get("NO_COLOR"):
        ctx.color = False
