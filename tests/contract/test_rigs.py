"""No executor escapes the contract: the list of rigs is compared with the executor table."""

import pytest

from gateway.executors.all import EXECUTORS
from gateway.executors.registry import executor_class
from tests.contract.conftest import RIGS
from tests.rigs import rig_modules


@pytest.mark.parametrize("type_name", sorted(EXECUTORS))
def test_a_shipped_executor_has_a_rig(type_name: str) -> None:
    assert type_name in rig_modules(), f"write tests/rigs/{type_name}.py"


@pytest.mark.parametrize("type_name", sorted({*EXECUTORS} & {*rig_modules()}))
async def test_the_rig_runs_the_executor_that_a_config_would(type_name, tmp_path) -> None:
    """Else another class could pass the contract in its place."""
    for number, (name, running) in enumerate(RIGS.items()):
        if name.split("-")[0] != type_name:
            continue
        async with running(tmp_path / str(number)) as rig:
            assert type(rig.executor) is executor_class(type_name)
