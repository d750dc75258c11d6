"""No executor escapes the contract: the list of rigs is compared with the executor table."""

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

from gateway import executors
from gateway.executors.all import EXECUTORS
from gateway.executors.base import Executor, Plugin
from gateway.executors.registry import executor_class
from tests.contract.conftest import RIGS
from tests.rigs import rig_modules


@pytest.mark.parametrize("type_name", sorted(EXECUTORS))
def test_a_shipped_executor_has_a_rig(type_name: str) -> None:
    assert type_name in rig_modules(), f"write tests/rigs/{type_name}.py"


def test_a_wrapper_has_a_rig() -> None:
    """An executor around an executor promises the same."""
    for module in iter_modules(executors.__path__, "gateway.executors."):
        import_module(module.name)
    wrappers = {kind.__module__ for kind in Executor.__subclasses__() if kind is not Plugin}
    shipped = {name.rpartition(".")[2] for name in wrappers if name.startswith("gateway.")}

    assert {"guarded", "fallback"} <= shipped <= set(rig_modules())


@pytest.mark.parametrize("name", [name for name in RIGS if name.split("-")[0] in EXECUTORS])
async def test_a_rig_runs_the_executor_that_a_config_would(name: str, tmp_path: Path) -> None:
    """Else another class could pass the contract in its place."""
    async with RIGS[name](tmp_path) as rig:
        assert type(rig.executor) is executor_class(name.split("-")[0])
