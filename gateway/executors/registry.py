"""Finds the executor class behind a `type:` of the config."""

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from gateway.executors.all import EXECUTORS
from gateway.executors.base import Plugin

GROUP = "workspace_gateway.executors"
"""The entry-point group in which other distributions offer executors: `type = "module:Class"`."""


def executor_class(type_name: str) -> type[Plugin]:
    """Import and return the executor of that type; raise KeyError if there is none."""
    module, _, name = _places()[type_name].partition(":")
    found: type[Plugin] = getattr(import_module(module), name)
    return found


def executor_types() -> Iterable[str]:
    """Every known `type:`."""
    return _places().keys()


@cache
def _places() -> dict[str, str]:
    """Where each executor is; what ships with the gateway cannot be replaced by a plug-in."""
    return {plugin.name: plugin.value for plugin in entry_points(group=GROUP)} | EXECUTORS
