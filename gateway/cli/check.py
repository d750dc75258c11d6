"""`workspace-gateway check`: every problem of a config at once, and whether executors answer."""

import asyncio

import click

from gateway.cli.config_file import BUILT_IN, config_option, read_config
from gateway.cli.exits import Exit
from gateway.config.model import Config, ExecutorConfig
from gateway.domain.errors import GatewayError
from gateway.executors.base import Health
from gateway.executors.registry import executor_class

_PROBE_TIMEOUT_S = 30


@click.command(
    epilog="""\b
Examples:
  workspace-gateway check --config gateway.yaml
  workspace-gateway check --config gateway.yaml --probe && systemctl reload workspace-gateway
"""
)
@config_option
@click.option("--probe", is_flag=True, help="Also start each executor and ask whether it can work.")
def check(file: str | None, probe: bool) -> Exit:
    """Report every problem of a config.

    Problems are printed as `file:line: path: what is wrong`. Exits with 2 if there are any, and
    with 5 if an executor is not ready.
    """
    config = read_config(file)
    click.secho(f"{file or BUILT_IN}: ok", fg="green")
    if probe and not asyncio.run(_all_ready(config)):
        return Exit.UNAVAILABLE
    return Exit.OK


async def _all_ready(config: Config) -> bool:
    """Print a line per executor; whether every one can work."""
    ready = True
    for name, section in config.executors.items():
        health = await _health(name, section)
        ready &= health.ready
        details = ", ".join(f"{key}: {value}" for key, value in health.details.items())
        state = "ready" if health.ready else "not ready"
        click.secho(f"{name}: {state} ({details})", fg="green" if health.ready else "red")
    return ready


async def _health(name: str, section: ExecutorConfig) -> Health:
    try:
        async with (
            asyncio.timeout(_PROBE_TIMEOUT_S),
            executor_class(section.type).running(name, section) as executor,
        ):
            return await executor.probe()
    except TimeoutError:
        return Health(False, {"error": f"no answer within {_PROBE_TIMEOUT_S} s"})
    except (GatewayError, OSError) as exc:
        return Health(False, {"error": str(exc)})
