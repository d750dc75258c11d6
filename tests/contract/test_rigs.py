"""No executor escapes the contract: the list of rigs is compared with the executor table."""

from pathlib import Path

import pytest

from gateway.executors.all import EXECUTORS
from gateway.executors.registry import executor_class
from tests.contract.conftest import RIGS
from tests.rigs import rig_modules


@pytest.mark.parametrize("type_name", sorted(EXECUTORS))
def test_a_shipped_executor_has_a_rig(type_name: str) -> None:
    assert type_name in rig_modules(), f"write tests/rigs/{type_name}.py"


@pytest.mark.parametrize("name", [name for name in RIGS if name.split("-")[0] in EXECUTORS])
async def test_a_rig_runs_the_executor_that_a_config_would(name: str, tmp_path: Path) -> None:
    """Else another class could pass the contract in its place."""
    async with RIGS[name](tmp_path) as rig:
        assert type(rig.executor) is executor_class(name.split("-")[0])
