"""The example that reproduces Shannon's deployment."""

from pathlib import Path

from gateway.cli.config_file import ExecutorModels
from gateway.config.load import load
from gateway.executors.firecracker.firecracker import FirecrackerConfig
from gateway.executors.registry import executor_class

EXAMPLE = Path(__file__).parents[4] / "config/examples/shannon-firecracker.yaml"


async def test_it_asks_shannons_executor_first_and_then_the_shared_directory(monkeypatch):
    monkeypatch.setenv("SHANNON_KEY_SHA256", "0" * 64)

    config = load(str(EXAMPLE), ExecutorModels())

    route = config.placement.default
    assert (route.executor, route.fallback) == ("firecracker", ("local",))
    shannon = config.executors["firecracker"]
    assert isinstance(shannon, FirecrackerConfig)
    assert shannon.url == "http://firecracker-executor:9001"
    assert shannon.workspaces == "/mnt/sessions"
    for name, section in config.executors.items():
        async with executor_class(section.type).running(name, section) as executor:
            assert executor.name == name
