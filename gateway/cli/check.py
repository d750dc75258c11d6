"""`workspace-gateway check`: every problem of a config at once, and whether its backends answer."""

import asyncio
import os
from collections.abc import Awaitable

import click

from gateway.cli.config_file import BUILT_IN, config_option, read_config
from gateway.cli.exits import Exit
from gateway.config.model import Config, ExecutorConfig, Store
from gateway.config.store_url import IN_MEMORY, shown, sqlite_file
from gateway.domain.errors import GatewayError
from gateway.executors.base import Health
from gateway.executors.registry import executor_class
from gateway.store.store import opened
from gateway.telemetry.logging import configure

_PROBE_TIMEOUT_S = 30


@click.command(
    epilog="""\b
Examples:
  workspace-gateway check --config gateway.yaml
  workspace-gateway check --config gateway.yaml --probe && systemctl reload workspace-gateway
"""
)
@config_option
@click.option("--probe", is_flag=True, help="Also ask each executor and the store.")
def check(file: str | None, probe: bool) -> Exit:
    """Report every problem of a config.

    Problems are printed as `file:line: path: what is wrong`. Exits with 2 if there are any, and
    with 5 if an executor or the store is not ready.
    """
    config = read_config(file)
    click.secho(f"{file or BUILT_IN}: ok", fg="green")
    if probe:
        configure()  # else what is logged meanwhile goes to standard output
        if not asyncio.run(_all_ready(config)):
            return Exit.UNAVAILABLE
    return Exit.OK


async def _all_ready(config: Config) -> bool:
    """Print a line per executor and one for the store; whether every one can work."""
    ready = [
        await _told(name, _executor(name, section)) for name, section in config.executors.items()
    ]
    return all([*ready, await _told("store", _store(config.store))])


async def _told(name: str, asking: Awaitable[Health]) -> bool:
    health = await _within_time(asking)
    details = ", ".join(f"{key}: {value}" for key, value in health.details.items())
    state = "ready" if health.ready else "not ready"
    click.secho(f"{name}: {state} ({details})", fg="green" if health.ready else "red")
    return health.ready


async def _executor(name: str, section: ExecutorConfig) -> Health:
    async with executor_class(section.type).running(name, section) as executor:
        return await executor.probe()


async def _store(section: Store) -> Health:
    details = {"url": shown(section.address)}
    # Not made here: it would belong to whoever asks, and the gateway's user could not write to it.
    if _is_to_be_made(section.address):
        return Health(True, {**details, "file": "made by the first start"})
    password = None if section.password is None else section.password.read()
    async with opened(section.address, password) as store:
        await store.check()
    return Health(True, details)


def _is_to_be_made(url: str) -> bool:
    file = sqlite_file(url) if url.startswith(IN_MEMORY) else None
    return file is not None and not os.path.exists(file)


async def _within_time(asking: Awaitable[Health]) -> Health:
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            return await asking
    except TimeoutError:
        return Health(False, {"error": f"no answer within {_PROBE_TIMEOUT_S} s"})
    except (GatewayError, OSError) as exc:
        return Health(False, {"error": str(exc)})
