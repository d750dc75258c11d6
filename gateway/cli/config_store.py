"""The store of a config, for commands that read it or write to it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

import click

from gateway.cli.exits import Exit
from gateway.config.model import Config
from gateway.config.store_url import IN_MEMORY
from gateway.domain.errors import GatewayError, StoreUnavailable, StoreUnusable
from gateway.store.base import Store
from gateway.store.store import opened
from gateway.telemetry.logging import configure

T = TypeVar("T")


def in_store(config: Config, work: Callable[[Store], Awaitable[T]]) -> T:
    """What *work* does in the store of *config*.

    Leaves with exit code 2 if the store cannot be used, with 5 if it does not answer, and with 1
    for any other refusal.
    """
    if config.store.address == IN_MEMORY:
        leave("store.url: is in the memory of the gateway; nobody else can reach it", Exit.USAGE)

    configure()

    async def run() -> T:
        secret = config.store.password
        password = None if secret is None else secret.read()
        async with opened(config.store.address, password) as store:
            return await work(store)

    try:
        return asyncio.run(run())
    except StoreUnusable as exc:
        leave(exc.message, Exit.USAGE)
    except StoreUnavailable as exc:
        leave(exc.message, Exit.UNAVAILABLE)
    except GatewayError as exc:
        leave(exc.message, Exit.FAILED)


def leave(message: str, code: Exit) -> NoReturn:
    """Print why, and leave with *code*."""
    click.secho(message, fg="red", err=True)
    raise click.exceptions.Exit(code)
