"""Tars that the programs of this world write: every byte, name, time and mode, of all of them."""

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from gateway.domain.errors import Unsupported
from gateway.executors.engines.tar_tree import Place
from tests import needs
from tests.gateways import plant
from tests.unit.executors.engines.tars import given

FILES: dict[str | bytes, bytes | str | None] = {
    "a": b"1",
    "empty": b"",
    "block": b"b" * 512,
    "large": bytes(range(256)) * 5000,
    "d/e/f": b"deep",
    "nothing": None,
    "p" * 90 + "/" + "q" * 90: b"fits into ustar",
    "é\u0301 \U0001f600": b"beyond ASCII",
    "sp ace\n=new line": b"odd",
    b"\xff\xfe": b"not UTF-8",
    "d/inside": "../a",
    "outside": "/etc/passwd",
    "dangling": "missing",
    "directory": "d",
}
LONG: dict[str | bytes, bytes | str | None] = {
    "l" * 150: b"a long name",
    "n/" * 60 + "m" * 200: b"a long path",
    "to the long": "l" * 150,
    "long link": "./" * 60 + "a",
}
SKIPPED = 4  # outside, dangling, directory, and the FIFO

GNU = ("tar", "--create", "--file=-")
BSD = ("bsdtar", "-c", "-f", "-")
PROGRAMS = {
    "gnu": (*GNU, "--format=gnu"),
    "gnu posix": (*GNU, "--format=posix"),
    "gnu ustar": (*GNU, "--format=ustar"),
    "gnu owned by somebody": (*GNU, "--owner=x:4000000000", "--numeric-owner"),
    "gnu in large records": (*GNU, "--blocking-factor=1000"),
    "bsd pax": (*BSD, "--format=pax"),
    "bsd restricted pax": BSD,
    "bsd ustar": (*BSD, "--format=ustar"),
    "bsd gnu": (*BSD, "--format=gnutar"),
    "busybox": ("busybox", "tar", "-c", "-f", "-"),
}
FORMATS = {"pax": tarfile.PAX_FORMAT, "gnu": tarfile.GNU_FORMAT, "ustar": tarfile.USTAR_FORMAT}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A workspace with all that a tar can hold."""
    return planted(tmp_path / "workspace", {**FILES, **LONG})


def planted(root: Path, files: dict[str | bytes, bytes | str | None]) -> Path:
    plant(root, files)
    os.link(root / "large", root / "z-hard")
    os.mkfifo(root / "pipe")
    os.chmod(root / "a", 0o4751)
    os.utime(root / "a", ns=(0, 1_234_567_890_123_456_789))
    return root


def what_lies_in(root: Path) -> dict[bytes, bytes | None]:
    """What an archive of it should hold."""
    held: dict[bytes, bytes | None] = {}
    top = os.fsencode(root)
    for directory, directories, files in os.walk(top):
        for name in directories + files:
            path = os.path.join(directory, name)
            if os.path.isdir(path):
                if not os.path.islink(path):
                    held[os.path.relpath(path, top)] = None
            elif os.path.isfile(path) and not os.path.realpath(path).startswith(b"/etc"):
                held[os.path.relpath(path, top)] = Path(os.fsdecode(path)).read_bytes()
    return held


def output(*command: str, where: Path) -> bytes:
    needs.program(command[0])
    return subprocess.run(command, cwd=where, capture_output=True, check=True).stdout


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("root", [".", "workspace"])
async def test_a_program_tells_all(program, root, tmp_path):
    """In ustar there is no place for the longest names."""
    has_room = "ustar" not in program
    tree = planted(tmp_path / "workspace", {**FILES, **LONG} if has_room else FILES)
    where = tree if root == "." else tmp_path

    tar = output(*PROGRAMS[program], root, where=where)

    found = await given(tar, places=(Place(prefix=() if root == "." else (b"workspace",)),))
    assert found.contents == what_lies_in(tree)
    assert found.skipped == SKIPPED
    assert found.members[b"a"].mode == 0o4751
    for path, member in found.members.items():
        mtime_ns = os.stat(os.path.join(os.fsencode(tree), path)).st_mtime_ns
        unit = 1 if program in ("gnu posix", "bsd pax") else 10**9
        assert member.mtime_ns // unit == mtime_ns // unit


@pytest.mark.parametrize("form", FORMATS)
async def test_python_tells_all(form, tmp_path):
    tree = planted(tmp_path / "workspace", FILES if form == "ustar" else {**FILES, **LONG})
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=FORMATS[form]) as tar:
        tar.add(tree, arcname="workspace")

    found = await given(made.getvalue(), places=(Place(prefix=(b"workspace",)),))

    assert found.contents == what_lies_in(tree)
    assert found.skipped == SKIPPED


async def test_gzip_of_a_program_is_read(tree):
    tar = output(*GNU, "--gzip", ".", where=tree)

    assert (await given(tar, is_gzip=True)).contents == what_lies_in(tree)


async def test_what_docker_sends_is_read(tmp_path):
    """PAX records for long and foreign names only, hard links behind their targets, two blocks of
    zeros at the very end (as moby's archive package writes them).
    """
    tree = planted(tmp_path / "workspace", {**FILES, **LONG})
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.add(tree, arcname="workspace/")
    whole = made.getvalue()
    last = len(whole.rstrip(b"\0"))
    docker = whole[: last + -last % 512 + 1024]

    found = await given(docker, places=(Place(prefix=(b"workspace",)),))

    assert found.contents == what_lies_in(tree)


@pytest.mark.parametrize("program", ["gnu", "gnu posix"])
async def test_a_sparse_file_is_refused_in_every_version_of_the_form(program, tmp_path):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(10_000_000)
        file.seek(5_000_000)
        file.write(b"x")
    for version in ["0.0", "0.1", "1.0"] if program == "gnu posix" else ["0.0"]:
        tar = output(*PROGRAMS[program], "-S", f"--sparse-version={version}", ".", where=tmp_path)
        with pytest.raises(Unsupported):
            await given(tar)
