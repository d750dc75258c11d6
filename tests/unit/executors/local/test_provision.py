"""A new workspace is a directory of ours, below the root and nowhere else."""

import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.domain.errors import AlreadyExists, SessionNotFound, Unavailable
from gateway.domain.model import SessionId
from gateway.executors.base import Sandbox
from gateway.executors.local.local import Local, LocalConfig
from tests import needs


@pytest.fixture
async def executor(root: Path) -> AsyncIterator[Local]:
    async with Local.running("local", LocalConfig(type="local", root=str(root))) as running:
        yield running


def sandbox(name: str = "new") -> Sandbox:
    return Sandbox(SessionId(name), secrets={"TOKEN": "hidden"})


async def test_it_is_for_our_user_only(executor: Local, root: Path) -> None:
    assert await executor.provision(sandbox()) == "new"
    assert await executor.provision(sandbox()) == "new"

    assert stat.S_IMODE((root / "new").stat().st_mode) == 0o700


async def test_one_that_is_there_is_left_as_it_is(executor: Local, root: Path) -> None:
    (root / "s1").chmod(0o750)
    (root / "s1" / "a").write_text("x")

    await executor.provision(sandbox("s1"))

    assert stat.S_IMODE((root / "s1").stat().st_mode) == 0o750
    assert (root / "s1" / "a").read_text() == "x"


@pytest.mark.parametrize("target", ["s1", "/etc", "nowhere", "new"])
async def test_a_link_is_neither_followed_nor_taken_for_one(
    executor: Local, root: Path, target: str
) -> None:
    (root / "new").symlink_to(target)

    with pytest.raises(AlreadyExists):
        await executor.provision(sandbox())

    assert sorted(os.listdir(root)) == ["new", "s1"]


async def test_a_file_is_none(executor: Local, root: Path) -> None:
    (root / "new").write_text("x")

    with pytest.raises(AlreadyExists):
        await executor.provision(sandbox())


async def test_another_users_directory_is_none(executor: Local, root: Path) -> None:
    needs.root()
    os.chown(root / "s1", 65534, 65534)

    with pytest.raises(AlreadyExists):
        await executor.provision(sandbox("s1"))


@pytest.mark.parametrize("name", ["", ".", "..", "../out", "a/b", "a\0b", "a" * 256])
async def test_what_is_no_name_makes_nothing(executor: Local, root: Path, name: str) -> None:
    with pytest.raises(SessionNotFound):
        await executor.provision(sandbox(name))

    assert os.listdir(root) == ["s1"]
    assert not (root.parent / "out").exists()


async def test_without_a_root_there_is_no_workspace(executor: Local, root: Path) -> None:
    root.rename(root.parent / "away")

    with pytest.raises(Unavailable):
        await executor.provision(sandbox())

    assert not root.exists()


def test_secrets_are_not_shown() -> None:
    assert "hidden" not in repr(sandbox())
