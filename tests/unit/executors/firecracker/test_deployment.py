"""Shannon's deployment: its executor first, and the shared sessions directory behind it."""

import os
from contextlib import AsyncExitStack

import pytest

from gateway.cli.config_file import ExecutorModels
from gateway.config.errors import ConfigError
from gateway.config.load import from_mapping
from tests.doubles.firecracker import Shannon
from tests.gateways import plant, running

FILES = "/api/v1/sessions/{}/files/{}"


async def test_the_executor_answers_then_the_directory_then_nobody(sessions):
    """What the executor cannot be asked for, and a session it never had, the directory answers."""
    plant(sessions / "s1", {"a..b": b"two dots", "a../x": b"1"})
    plant(sessions / "s1", {b"d/\xff": b"", "d/x": b"1"})
    os.utime(sessions / "s1/d/x", (0, 1_773_136_800))
    async with AsyncExitStack() as stack:
        up = await stack.enter_async_context(AsyncExitStack())
        shannon = await up.enter_async_context(Shannon.running(sessions))
        changes = {
            "executors": {"firecracker": {"type": "firecracker", "url": shannon.url}},
            "placement": {"default": {"executor": "firecracker", "fallback": ["local"]}},
        }
        gateway = await stack.enter_async_context(running(sessions, changes))

        first = await gateway.ask(FILES.format("s1", "a.txt"))
        dotted = await gateway.ask(FILES.format("s1", "a..b"))
        listed = await gateway.ask("/api/v1/sessions/s1/files?path=d")
        dotted_listing = await gateway.ask("/api/v1/sessions/s1/files?path=a..")
        missing = await gateway.ask(FILES.format("s1", "nothing"))
        await up.aclose()
        second = await gateway.ask(FILES.format("s1", "a.txt"))
        os.rename(sessions, sessions.with_name("gone"))
        third = await gateway.ask(FILES.format("s1", "a.txt"))

    assert (first.status, first.body) == (200, b"hello")
    assert first.header("X-Workspace-Fallback") is None
    assert (dotted.status, dotted.body) == (200, b"two dots")
    assert dotted.header("X-Workspace-Fallback") == "unsupported"
    assert (listed.status, listed.header("X-Workspace-Fallback")) == (200, None)
    times = {entry["name"]: entry["modified_at"] for entry in listed.json["files"]}
    assert len(times) == 2
    assert times["x"] == "2026-03-10T10:00:00Z"
    assert dotted_listing.status == 200
    assert dotted_listing.header("X-Workspace-Fallback") == "unsupported"
    assert missing.status == 404
    assert (second.status, second.body) == (200, b"hello")
    assert second.header("X-Workspace-Fallback") == "unreachable"
    assert third.status == 502


def test_its_own_limit_must_not_be_below_that_of_all_files():
    """Nor may the one that it has without being told."""
    executors = {"shannon": {"type": "firecracker", "url": "http://shannon:9001"}}

    with pytest.raises(ConfigError, match=r"shannon\.max_file: must not be less than limits\.file"):
        from_mapping(
            {"executors": executors, "limits": {"file": "101MiB"}}, ExecutorModels(), "here"
        )
