"""A group of commands that are imported when they are called, so that `--help` is quick."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from gateway.cli.exits import Exit

Table = Mapping[str, tuple[str, str]]
"""Name to ("module:attribute", one line of help)."""


class LazyGroup(click.Group):
    """A click group made from a table.

    What a command returns is the exit code, None being 0; 130 if it is interrupted.
    """

    def __init__(self, *args: Any, table: Table, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every name, in the table's order."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command; None if there is no such name."""
        if cmd_name not in self.table:
            return None
        module, _, attribute = self.table[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.table.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command, and exit with what it returns."""
        try:
            code = super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):
            click.echo(err=True)
            code = Exit.INTERRUPTED
        raise click.exceptions.Exit(code or Exit.OK)
