"""Equal workspaces give equal bytes and keys; changed ones other keys."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.archive.helpers import Helpers
from gateway.domain.archives import Format
from tests.unit.archive.spools import CHECKOUT
from tests.unit.archive.trees import (
    TIME,
    members_of,
    noise,
    packed,
    plan_of,
    text,
    write,
)

_PACKING = """
import asyncio, sys
from hashlib import blake2b
from pathlib import Path
from gateway.archive.helpers import Helpers
from gateway.domain.archives import Format
from tests.unit.archive.trees import packed

async def main(root, path):
    async with Helpers.running(1) as helpers:
        for form in Format:
            plan = await packed(Path(root), form, helpers, Path(path))
            print(form.value, plan.key, blake2b(Path(path).read_bytes()).hexdigest())

asyncio.run(main(*sys.argv[1:]))
"""


_COMPRESSING = """
import zlib
from hashlib import blake2b
from gateway.archive import compress
from tests.unit.archive.trees import noise, text

words, digest = text(1, 300_000), blake2b()
for number in range(10_000):
    data = words[11 * number : 11 * number + 60 + number % 2500] + noise(number, number % 40)
    digest.update(compress.deflated(data))
    if number % 10 == 0:
        digest.update(b"".join(compress.deflate_piece(data, last=False, stored=False)))
for number in range(5_000):
    head = noise(number, 8)
    # What begins at the third byte comes again.
    data = head + noise(number + 5_000, 40) + head[2:] + words[:17_000]
    digest.update(compress.deflated(data))
print(digest.hexdigest())
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "tree"
    write(path, {b"%03d" % number: text(number, 37 * number) for number in range(400)})
    write(path, {b"a/x": b"x", b"b/x": b"y", b"c/large": text(1, 3_000_000), b"noise": noise(1, 9)})
    write(path, {"é.txt".encode(): b"", b"\xff": b"z", b"A": b"", b"a~2": b""})
    return path


def said_by_processes(program: str, *arguments: Path, count: int) -> set[str]:
    """What comes of running it several times, with memory and hashes of its own each time."""
    return {
        subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=CHECKOUT,
            env={**os.environ, "PYTHONHASHSEED": f"{seed}"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        for seed in range(count)
    }


def test_the_level_of_compression_gives_the_same_bytes_in_every_process() -> None:
    """Others look at an address: once in some thousand files it shows."""
    assert len(said_by_processes(_COMPRESSING, count=4)) == 1


def test_every_process_makes_the_same_archives_and_the_same_keys(
    root: Path, tmp_path: Path
) -> None:
    said = said_by_processes(_PACKING, root, tmp_path / "archive", count=2)

    assert len(said) == 1
    assert len(said.pop().splitlines()) == len(Format)


@pytest.mark.parametrize("form", list(Format))
async def test_a_copy_of_a_workspace_gives_the_same_bytes(
    tmp_path: Path, helpers: Helpers, form: Format
) -> None:
    """Whatever the order in which its files were made."""
    tree = {b"%d/%d" % (number % 7, number): text(number, 1000) for number in range(0, 90, 2)}
    write(tmp_path / "a", tree)
    write(tmp_path / "b", dict(reversed(tree.items())))
    for number, path in enumerate(tree):
        where = tmp_path / "b" / path.decode()
        where.chmod(0o755 if number % 2 else 0o640)
        os.utime(where, ns=(0, (TIME + number) * 10**9 + 999_999_999))

    await packed(tmp_path / "a", form, helpers, tmp_path / "a.archive")
    await packed(tmp_path / "b", form, helpers, tmp_path / "b.archive")

    assert (tmp_path / "a.archive").read_bytes() == (tmp_path / "b.archive").read_bytes()


def _rewrite(root: Path) -> None:
    """In place, with as many bytes, and as if at the same time."""
    before = (root / "d/file").stat()
    (root / "d/file").write_bytes(b"DATA")
    os.utime(root / "d/file", ns=(before.st_atime_ns, before.st_mtime_ns))


def _swap(root: Path) -> None:
    (root / "d").rename(root / "x")
    (root / "e").rename(root / "d")
    (root / "x").rename(root / "e")


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": _rewrite,
    "length": lambda root: os.truncate(root / "d/file", 3),
    "time": lambda root: os.utime(root / "d/file", (TIME, TIME)),
    "mode": lambda root: (root / "d/file").chmod(0o700),
    "name": lambda root: (root / "d/file").rename(root / "d/File"),
    "directory": lambda root: (root / "d/file").rename(root / "e/other"),
    "directories swapped": _swap,
    "one more": lambda root: (root / "new").write_bytes(b""),
    "one more directory": lambda root: (root / "new").mkdir(),
    "one less": lambda root: (root / "d/file").unlink(),
    "another file": lambda root: (root / "e/file").rename(root / "d/file"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_gives_another_key(tmp_path: Path, change: str) -> None:
    root = tmp_path / "tree"
    write(root, {b"d/file": b"data", b"e/file": b"data"})
    before = plan_of(members_of(root), Format.ZIP).key
    assert plan_of(members_of(root), Format.ZIP).key == before

    CHANGES[change](root)

    assert plan_of(members_of(root), Format.ZIP).key != before


def test_no_two_archives_of_a_workspace_share_a_key(root: Path) -> None:
    members = members_of(root)
    plans = [
        *(plan_of(members, form) for form in Format),
        plan_of(members, Format.ZIP, stored=True),
        plan_of(members, Format.ZIP, origin="local/s2"),
        plan_of(members[1:], Format.ZIP),
    ]

    assert len({plan.key for plan in plans}) == len(plans)


def _keys(version: int | str | None, mtime_ns: int | None, root: Path) -> Iterator[str]:
    members = [
        member._replace(version=None if member.is_directory else version, mtime_ns=mtime_ns)
        for member in members_of(root)
    ]
    for _ in range(2):
        yield plan_of(members, Format.ZIP).key


def test_where_the_next_write_may_leave_no_trace_no_key_comes_twice(tmp_path: Path) -> None:
    """Many backends tell whole seconds, and nothing else."""
    root = tmp_path / "tree"
    write(root, {b"d/file": b"data"})
    now = (root / "d").stat().st_mtime_ns

    assert len({*_keys(None, now, root)}) == 2
    assert len({*_keys(None, None, root)}) == 2
    assert len({*_keys(None, TIME * 10**9, root)}) == 1
    assert len({*_keys("strong", now, root)}) == 1
    assert len({*_keys(7, None, root)}) == 1
