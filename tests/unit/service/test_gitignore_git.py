"""What a workspace's own `.gitignore` files leave, on disk, with git itself as the judge."""

import asyncio
import os
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.archives import ArchiveBounds, Format, Packing
from gateway.domain.model import Kind
from gateway.domain.paths import WorkspacePath
from gateway.executors.local.local import Local, LocalConfig
from gateway.service.gitignore import own_ignores
from tests import needs

BOUNDS = ArchiveBounds(entries=100_000, bytes=1 << 30, file=1 << 30, depth=64)
# Some come before `.gitignore`, some behind it; a name may be a file here and a directory there.
NAMES = [b"!x", b"#", b"-d", b".c", b"a", b"b", b"ab", b"a b", b"[a]", b"\xc3\xa9", b"\xff"]
ATOMS = [*NAMES, b"*", b"**", b"?", b"[ab]", b"[!a]", b"\\", b"*a", b"a*", b".*"]

names = st.sampled_from(NAMES)
lines = st.builds(
    lambda before, body, after: before + b"/".join(body) + after,
    st.sampled_from([b"", b"", b"!", b"/", b"!/", b"\\", b"#", b"**/"]),
    st.lists(st.sampled_from(ATOMS), min_size=1, max_size=3),
    st.sampled_from([b"", b"", b"/", b"/*", b"/**", b" ", b"\r"]),
)
places = st.lists(names, max_size=3).map(tuple)
ignore_files = st.dictionaries(places, st.lists(lines, max_size=4), max_size=5)
files = st.lists(st.lists(names, min_size=1, max_size=4).map(tuple), max_size=25)


def plant(root: bytes, path: tuple[bytes, ...], content: bytes = b"") -> None:
    """Put a file there, unless a directory or a file is in the way."""
    try:
        os.makedirs(os.path.join(root, *path[:-1]), exist_ok=True)
        with open(os.path.join(root, *path), "wb") as file:
            file.write(content)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        pass


def shown_by_git(root: Path, path: bytes) -> list[bytes]:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_LITERAL_PATHSPECS": "1"}
    listed = subprocess.run(
        ["git", "-C", root, "ls-files", "--others", "--exclude-standard", "-z", "--", path or b"."],
        capture_output=True,
        env=environment,
        check=True,
    ).stdout
    return sorted(listed.split(b"\0")[:-1])


async def left(root: Path, path: bytes = b"") -> list[bytes]:
    """The files that are left of the workspace *root*."""
    where = WorkspacePath(tuple(path.split(b"/")) if path else ())
    packing = Packing(Format.ZIP, (where,), gitignore=True)
    config = LocalConfig(type="local", root=str(root.parent))
    async with Local.running("local", config) as executor:
        selection = await own_ignores(executor, root.name, packing, BOUNDS)
        async with executor.walk(root.name, where, depth=64, selection=selection) as walk:
            entries = [entry async for batch in walk for entry in batch]
    return sorted(entry.path.raw for entry in entries if entry.kind is not Kind.DIRECTORY)


@given(ignores=ignore_files, others=files, below=st.booleans())
@settings(max_examples=50)
def test_git_agrees(
    ignores: dict[tuple[bytes, ...], list[bytes]], others: list[tuple[bytes, ...]], below: bool
):
    needs.program("git")
    with tempfile.TemporaryDirectory() as tmp:
        root = Path(tmp) / "s1"
        subprocess.run(["git", "init", "-q", root], check=True)
        for place, patterns in ignores.items():
            plant(os.fsencode(root), (*place, b".gitignore"), b"\n".join(patterns))
        for path in others:
            plant(os.fsencode(root), path)
        path = b"/".join(others[0][:-1]) if below and others else b""
        if not os.path.isdir(os.path.join(os.fsencode(root), path)):
            path = b""

        assert asyncio.run(left(root, path)) == shown_by_git(root, path)


@pytest.mark.parametrize("target", ["rules", "../../rules", "nowhere"])
async def test_a_link_is_to_git_no_source_of_patterns_either(tmp_path: Path, target: str):
    needs.program("git")
    root = tmp_path / "s1"
    subprocess.run(["git", "init", "-q", root], check=True)
    (root / "d").mkdir()
    for place in (root, root / "d"):
        (place / "a").touch()
        (place / "rules").write_text("a\n")
        (place / ".gitignore").symlink_to(target)

    assert await left(root) == shown_by_git(root, b"")
    assert b"a" in await left(root)


async def test_a_large_tree_is_looked_through_quickly(tmp_path: Path):
    """20,000 files that count in 200 directories of which every tenth has patterns of its own."""
    root = tmp_path / "s1"
    for n in range(200):
        place = root / f"p{n:03}"
        (place / "node_modules" / "x").mkdir(parents=True)
        if n % 10 == 0:
            (place / ".gitignore").write_text("*.log\n/dist\n!keep.log\nnode_modules/\n")
        for m in range(100):
            (place / f"file-{m}.py").touch()
    (root / ".gitignore").write_text("__pycache__/\n*.py[cod]\n.venv\nnode_modules\n")
    config = LocalConfig(type="local", root=str(tmp_path))
    packing = Packing(Format.ZIP, gitignore=True)
    async with Local.running("local", config) as executor:
        started = time.perf_counter()
        await own_ignores(executor, "s1", packing, BOUNDS)
        took = time.perf_counter() - started

    assert took < 3  # 0.4 s on two quiet cores
