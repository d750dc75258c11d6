"""Finds the executor class behind a `type:` of the config."""

from collections.abc import Iterable
from importlib import import_module

from gateway.executors.all import EXECUTORS
from gateway.executors.base import Executor


def executor_class(type_name: str) -> type[Executor]:
    """Import and return the executor of that type; raise KeyError if there is none."""
    module, _, name = EXECUTORS[type_name].partition(":")
    found: type[Executor] = getattr(import_module(module), name)
    return found


def executor_types() -> Iterable[str]:
    """Every known `type:`."""
    return EXECUTORS.keys()
