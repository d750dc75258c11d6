"""How to start each executor on a workspace of its own; `tests/contract` runs on all of them.

A rig is a module here that is named like the executor's `type:` (or like the wrapper). It has

    @asynccontextmanager
    async def running(tmp_path: Path) -> AsyncIterator[Rig]

or, where there are several ways to run the executor, `RIGS`, which has such a function for each:

    RIGS = {"tcp": ..., "unix": ...}

It is called once per test. A backend that is slow to start may be started once and kept, as long
as every call gives a fresh workspace. What the rig needs of the machine it says by `tests.needs`.

A wrapper is an executor around an executor, and its rig is one line around other rigs:

    RIGS = {"local": wrapping(local.RIGS["openat2"], guarded)}
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from gateway.executors.base import Executor
from tests.gateways import Files


@dataclass(frozen=True)
class Rig:
    """A running executor and a workspace of its backend, empty at first.

    *plant* puts files there as `gateways.plant` does on a disk, also while the executor runs.
    """

    executor: Executor
    workspace: str
    plant: Callable[[Files], object]


Running = Callable[[Path], AbstractAsyncContextManager[Rig]]
"""Starts a rig, which may keep what it needs below the directory it is given."""


def rigs() -> dict[str, Running]:
    """Every rig there is, by `type` or `type-variant`."""
    found: dict[str, Running] = {}
    for name in rig_modules():
        module = import_module(f"{__name__}.{name}")
        variants = getattr(module, "RIGS", None)
        if variants is None:
            found[name] = module.running
        else:
            found.update({f"{name}-{variant}": each for variant, each in variants.items()})
    return found


def rig_modules() -> list[str]:
    """The executor types and the wrappers that have a rig."""
    return [module.name for module in iter_modules(__path__)]


def wrapping(
    inner: Running, wrap: Callable[[Executor], AbstractAsyncContextManager[Executor]]
) -> Running:
    """The rig of a wrapper: *wrap* around the executor of the rig *inner*."""

    @asynccontextmanager
    async def running(tmp_path: Path) -> AsyncIterator[Rig]:
        async with inner(tmp_path) as rig, wrap(rig.executor) as executor:
            yield replace(rig, executor=executor)

    return running
