"""The executor as a whole: its config, its start, and a root that comes and goes."""

import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.domain.errors import Unavailable
from gateway.domain.paths import WorkspacePath
from gateway.executors.local.local import Local, LocalConfig
from gateway.executors.registry import executor_class
from tests.unit.executors.local.rig import (
    RESOLVERS,
    Place,
    content,
    listed,
    open_files,
    outcome,
    running,
)

UNREADABLE_ROOT = (Unavailable, "the workspace root cannot be read")


def test_the_registry_knows_it() -> None:
    assert executor_class("local") is Local


@pytest.mark.parametrize(
    "wrong",
    [
        {"root": ""},
        {"root": "a\0b"},
        {"resolver": "realpath"},
        {"sandbox_prefix": "workspace"},
        {"sandbox_prefix": ""},
        {"unknown": 1},
        {"type": "remote"},
    ],
)
def test_a_wrong_config_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        LocalConfig.model_validate({"type": "local", "root": "/srv", **wrong})


@pytest.mark.parametrize("resolver", RESOLVERS)
async def test_health_names_the_resolver(place: Place, resolver: str) -> None:
    async with running(place, resolver) as executor:
        health = await executor.probe()

    assert health.ready
    assert {"resolver": resolver} == health.details


async def test_a_missing_root_is_unready_until_it_is_there(place: Place, executor: Local) -> None:
    shutil.rmtree(place.root)
    assert not (await executor.probe()).ready
    assert await outcome(executor, "f") == UNREADABLE_ROOT

    place.file("f")

    assert (await executor.probe()).ready
    assert await content(executor, "f") == b"inside"


async def test_a_root_that_was_replaced_is_the_new_one(place: Place, executor: Local) -> None:
    place.file("f", b"old")
    assert await content(executor, "f") == b"old"
    before = open_files()

    for number in range(3):
        place.root.rename(place.root.with_name(f"old-{number}"))
        place.file("f", b"new %d" % number)
        assert b"new %d" % number == await content(executor, "f")

    assert open_files() == before


async def test_a_root_that_is_a_file_cannot_be_read(place: Place, executor: Local) -> None:
    shutil.rmtree(place.root)
    place.root.write_bytes(b"")

    assert not (await executor.probe()).ready
    assert await outcome(executor, "f") == UNREADABLE_ROOT
    with pytest.raises(Unavailable):
        async with executor.walk("s1", WorkspacePath(), depth=1):
            pass


async def test_a_relative_root_is_taken_from_where_the_gateway_started(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.file("f")
    monkeypatch.chdir(place.root.parent)
    config = LocalConfig(type="local", root="root")
    async with Local.running("local", config) as executor:
        monkeypatch.chdir(Path("/"))

        assert await content(executor, "f") == b"inside"


async def test_no_message_names_a_path_of_the_host(place: Place, executor: Local) -> None:
    place.file("d/f")
    place.link("out", str(place.outside / "f"))
    outcomes = [await outcome(executor, path) for path in ("d", "d/f/x", "x", "out")]
    shutil.rmtree(place.root)
    outcomes.append(await outcome(executor, "d"))

    assert not [text for text in map(str, outcomes) if str(place.root) in text]


async def test_everything_is_given_back_when_it_stops(place: Place) -> None:
    place.file("f")
    before = open_files()
    async with running(place) as executor:
        await content(executor, "f")

    assert open_files() == before
