"""`workspace-gateway check`: every problem of a config, and whether executors and store answer."""

import asyncio

import click

from gateway.cli.config_file import BUILT_IN, config_option, read_config
from gateway.cli.exits import Exit
from gateway.config.model import Config, ExecutorConfig, Store
from gateway.domain.errors import GatewayError, StoreUnavailable
from gateway.executors.base import Health
from gateway.executors.registry import executor_class
from gateway.store.store import missing_steps
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
    with 5 if an executor or the store is not ready. A probe changes nothing, also in the store.
    """
    config = read_config(file)
    click.secho(f"{file or BUILT_IN}: ok", fg="green")
    if not probe:
        return Exit.OK
    configure()
    return Exit.OK if asyncio.run(_all_ready(config)) else Exit.UNAVAILABLE


async def _all_ready(config: Config) -> bool:
    """Print a line per executor, and one of the store; whether every one can work."""
    found = [(name, await _health(name, section)) for name, section in config.executors.items()]
    found.append(("store", await _store_health(config.store)))
    for name, health in found:
        details = ", ".join(f"{key}: {value}" for key, value in health.details.items())
        state = "ready" if health.ready else "not ready"
        click.secho(f"{name}: {state} ({details})", fg="green" if health.ready else "red")
    return all(health.ready for _, health in found)


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


async def _store_health(store: Store) -> Health:
    try:
        password = None if store.password is None else store.password.read()
        missing = await missing_steps(store.address, password)
    except StoreUnavailable as exc:
        return Health(False, {"error": str(exc.__cause__ or "") or "no answer in time"})
    except (GatewayError, OSError) as exc:
        return Health(False, {"error": str(exc)})
    behind = f"{missing} steps behind, which the next start takes"
    return Health(True, {"schema": behind if missing else "up to date"})
