"""Zip files beyond 65,534 members and 4 GiB."""

import os
import subprocess
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from gateway.archive import zip as records
from gateway.archive.build import build
from gateway.archive.helpers import Helpers
from gateway.domain.archives import Bodies, Format, Member
from tests import needs
from tests.unit.archive import tools
from tests.unit.archive.trees import TIME, Fetched, File, OnDisk, archive, plan_of

GIB = 1 << 30
_ZEROS = bytes(8192)


class Sparse(File):
    """A sink that leaves holes where packets have zeros."""

    async def append_from(self, descriptor: int, count: int) -> None:
        data, start = os.pread(descriptor, count, 0), self._file.tell()
        self._file.truncate(start + count)
        for position in range(0, count, len(_ZEROS)):
            block = data[position : position + len(_ZEROS)]
            if block != _ZEROS:
                os.pwrite(self._file.fileno(), block, start + position)
        self._file.seek(start + count)


@pytest.fixture
def memory() -> Iterator[int]:
    """A file in memory, for the bodies of members that every process finds there."""
    descriptor = os.memfd_create("bodies")
    yield descriptor
    os.close(descriptor)


def file_of(name: bytes, size: int) -> Member:
    return Member((name,), False, size, TIME * 10**9, 0o644, 1)


@pytest.mark.parametrize("count", [65_535, 65_536])
async def test_there_may_be_more_than_65535_members(
    tmp_path: Path, helpers: Helpers, count: int
) -> None:
    tree = {b"%05d" % number: b"" for number in range(count)}
    source = Fetched(tree | {b"65533": b"one of the last"})
    path = tmp_path / "archive.zip"

    await archive(plan_of(source.members, Format.ZIP), source, helpers, path)

    assert f"number of entries: {count}" in tools.run("zipinfo", "-h", path)
    with zipfile.ZipFile(path) as made:
        assert made.namelist() == [f"{number:05d}" for number in range(count)]
        assert made.read("65533") == b"one of the last"
    assert tools.run("bsdtar", "-tf", path).count("\n") == count
    tools.run("unzip", "-t", "-q", path)
    tools.run("7z", "t", path)


async def test_a_member_and_an_archive_may_be_larger_than_4_gib(
    tmp_path: Path, helpers: Helpers, memory: int
) -> None:
    """What lies behind them is found."""
    size = 4 * GIB + 5
    os.pwrite(memory, b"end", size - 3)
    members = [file_of(b"large", size), file_of(b"small", 5)]
    source = OnDisk(members, Bodies(memory, None, [0, size - 5]))
    path, plan = tmp_path / "archive.zip", plan_of(members, Format.ZIP, stored=True)

    with Sparse(path) as sink:
        await build(plan, source, helpers, sink)

    assert path.stat().st_size == plan.size == plan.most > 4 * GIB
    assert "number of entries: 2" in tools.run("zipinfo", "-h", path)
    tools.run("unzip", "-t", "-q", path, "small")
    # The quickest; it compares sizes and checksums.
    bsdtar = (needs.program("bsdtar"), "-xOf", path)
    subprocess.run(bsdtar, stdout=subprocess.DEVNULL, check=True)
    with zipfile.ZipFile(path) as made:
        assert [info.file_size for info in made.infolist()] == [size, 5]
        assert made.read("small") == b"\0\0end"


LIMITS = [0xFEFFFFFF, 0xFF000000, 0xFFFFFFFE, 0xFFFFFFFF, 0x100000000, 0x100000001]


def _with_bodies(path: Path, sizes: Sequence[int], *, growth: int) -> None:
    """An archive whose members' data are holes."""
    directory = []
    with path.open("wb") as file:
        for number, size in enumerate(sizes):
            member = file_of(b"%d" % number, size)
            offset, body = file.tell(), records.Body(records.DEFLATED, 7, size + growth, size)
            file.write(records.streamed_header(b"%d" % number, member))
            file.seek(body.compressed, os.SEEK_CUR)
            file.write(records.descriptor(member, body))
            directory.append(
                records.central_header(b"%d" % number, member, body, offset, streamed=True)
            )
        offset, size = file.tell(), sum(map(len, directory))
        file.write(b"".join(directory) + records.end_records(len(directory), size, offset))


@pytest.mark.parametrize("growth", [-2_000_000, 0, 3_000_000])
@pytest.mark.parametrize("sizes", [[size, 5] for size in LIMITS] + [LIMITS])
def test_records_hold_sizes_and_offsets_around_32_bits(
    tmp_path: Path, sizes: list[int], growth: int
) -> None:
    path = tmp_path / "archive.zip"
    sizes = [size for size in sizes if size + growth > 0]

    _with_bodies(path, sizes, growth=growth)

    with zipfile.ZipFile(path) as made:
        infos = made.infolist()
    assert [info.file_size for info in infos] == sizes
    assert [info.compress_size for info in infos] == [size + growth for size in sizes]
    said = tools.run("7z", "l", "-slt", path)
    assert [size for size in sizes if f"\nSize = {size}\n" not in said] == []
    # Info-ZIP takes these very numbers in a 64-bit field for a sign that there is another one.
    if 0xFFFFFFFF not in {*sizes, *(size + growth for size in sizes)}:
        assert "warning" not in tools.run("zipinfo", "-v", path)
