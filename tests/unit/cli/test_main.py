"""The command line as a whole: help, exit codes, speed."""

import subprocess
import sys
import time

import click
import pytest
from click.testing import CliRunner

from gateway.cli import COMMANDS, main
from gateway.cli.exits import Exit
from gateway.cli.lazy import LazyGroup
from tests.unit.cli.command import command, inherited


def every_command(group: click.Group = main, above: tuple[str, ...] = ()):
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        yield pytest.param((*above, name), id=" ".join((*above, name)))
        if isinstance(found, click.Group):
            yield from every_command(found, (*above, name))


@pytest.mark.parametrize("path", list(every_command()))
def test_every_command_has_help_with_examples(path):
    result = CliRunner().invoke(main, [*path, "--help"])

    assert result.exit_code == Exit.OK
    assert f"workspace-gateway {' '.join(path)}" in result.output


def test_the_table_says_what_the_commands_say():
    """It repeats the first line of their help so that they need not be imported."""
    context = click.Context(main)
    for name, (_, line) in COMMANDS.items():
        found = main.get_command(context, name)
        assert found is not None
        assert (found.help or "").splitlines()[0] == line


def test_help_lists_everything_and_how_to_complete():
    result = command("--help")

    assert result.returncode == Exit.OK
    assert all(f"  {name} " in result.stdout for name in COMMANDS)
    assert "_WORKSPACE_GATEWAY_COMPLETE=bash_source" in result.stdout


def test_help_imports_no_command():
    """Pydantic and aiohttp alone would take longer than all of it."""
    code = (
        "import sys; from gateway.cli import main; main(['--help'], standalone_mode=False);"
        "print([name for name in sys.modules if name in {'pydantic', 'aiohttp', 'yaml'}])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=inherited(), timeout=60
    )

    assert result.stdout.splitlines()[-1] == "[]"


def test_help_is_quick():
    def seconds() -> float:
        before = time.perf_counter()
        command("--help")
        return time.perf_counter() - before

    assert min(seconds() for _ in range(3)) < 1


def test_version():
    result = CliRunner().invoke(main, ["--version"])

    assert result.exit_code == Exit.OK
    assert result.output.startswith("workspace-gateway, version ")


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], ["check", "--nonsense"]])
def test_usage_errors(arguments):
    assert CliRunner().invoke(main, arguments).exit_code == Exit.USAGE


def test_no_color_is_honoured(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")

    result = CliRunner().invoke(main, ["check", "--config", "/nowhere.yaml"], color=True)

    assert "\x1b" not in result.output


def test_color_is_there_otherwise(monkeypatch):
    """Or the test above would prove nothing."""
    monkeypatch.delenv("NO_COLOR", raising=False)

    result = CliRunner().invoke(main, ["check", "--config", "/nowhere.yaml"], color=True)

    assert "\x1b" in result.output


@click.command()
def interrupted() -> None:
    raise KeyboardInterrupt


@click.command()
def aborted() -> None:
    raise click.Abort


@click.command()
def unavailable() -> int:
    return Exit.UNAVAILABLE


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("interrupted", Exit.INTERRUPTED),
        ("aborted", Exit.INTERRUPTED),
        ("unavailable", Exit.UNAVAILABLE),
    ],
)
def test_how_a_command_ends_is_the_exit_code(name, code):
    group = LazyGroup("group", table={name: (f"{__name__}:{name}", "")})

    assert CliRunner().invoke(group, [name]).exit_code == code
