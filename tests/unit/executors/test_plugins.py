"""Another distribution offers an executor by an entry point, and a config can name it."""

import os
from pathlib import Path

import pytest

from gateway.cli.exits import Exit
from tests.unit.cli.command import CHECKOUT, command

MEMORY = "tests.doubles.memory:Memory"
NAMES_MEMORY = "executors: {m: {type: memory}}"


def distribution(place: Path, **executors: str) -> str:
    """Install a distribution with these entry points in *place*; returns the `PYTHONPATH`."""
    info = place / "some_plugin-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-plugin\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in executors.items()]
    (info / "entry_points.txt").write_text(
        "\n".join(["[workspace_gateway.executors]", *lines]) + "\n"
    )
    return os.pathsep.join([str(place), CHECKOUT])


def check(tmp_path: Path, config: str, path: str) -> tuple[int, str]:
    (tmp_path / "c.yaml").write_text(config)
    result = command("check", "--config", "c.yaml", "--probe", cwd=str(tmp_path), PYTHONPATH=path)
    return result.returncode, result.stderr


def test_a_plug_in_is_named_in_a_config_like_any_executor(tmp_path):
    path = distribution(tmp_path / "lib", memory=MEMORY)

    assert check(tmp_path, NAMES_MEMORY, path) == (Exit.OK, "")


def test_without_it_there_is_no_such_type(tmp_path):
    """What is in memory is for tests: nothing that ships with the gateway offers it."""
    code, errors = check(tmp_path, NAMES_MEMORY, CHECKOUT)

    assert code == Exit.USAGE
    assert errors == "c.yaml:1: executors.m.type: no executor of type 'memory'\n"


def test_its_own_config_is_as_strict(tmp_path):
    path = distribution(tmp_path / "lib", memory=MEMORY)

    code, errors = check(tmp_path, "executors: {m: {type: memory, size: 1}}", path)

    assert code == Exit.USAGE
    assert errors.startswith("c.yaml:1: executors.m.size: unknown key")


@pytest.mark.parametrize("broken", ["nowhere.to:Find", "tests.doubles.memory:Missing"])
def test_a_plug_in_that_nobody_names_is_not_imported(tmp_path, broken):
    path = distribution(tmp_path / "lib", broken=broken)

    assert check(tmp_path, "executors: {local: {type: local, root: .}}", path) == (Exit.OK, "")


def test_what_ships_with_the_gateway_cannot_be_replaced(tmp_path):
    """Else a dependency could read every workspace."""
    path = distribution(tmp_path / "lib", local=MEMORY)

    code, errors = check(tmp_path, "executors: {local: {type: local}}", path)

    assert code == Exit.USAGE
    assert errors == "c.yaml:1: executors.local.root: is missing\n"
