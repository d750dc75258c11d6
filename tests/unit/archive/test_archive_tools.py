"""Archives as other people's programs read them."""

import asyncio
import os
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.archive.helpers import Helpers
from gateway.archive.jobs import MOST_BYTES
from gateway.domain.archives import Format
from tests.unit.archive import tools
from tests.unit.archive.trees import noise, packed, text, write

FORMS = [(form, False) for form in Format] + [(Format.ZIP, True)]

TREE = {
    b"README.md": text(1, 3000),
    b"empty": b"",
    b"one byte": b"x",
    b"zeros": bytes(200_000),
    b"noise": noise(2, 200_000),
    b"just whole": text(3, MOST_BYTES),
    b"just in pieces": text(4, MOST_BYTES + 1),
    b"almost whole": text(5, MOST_BYTES - 1),
    b"pieces": text(6, 3 * MOST_BYTES) + noise(7, MOST_BYTES + 12_345),
    b"noise in pieces": noise(8, 2 * MOST_BYTES),
    b"noise around text": noise(9, 600_000) + text(9, 8192) + noise(10, 600_000),
    b"text around noise": text(9, 600_000) + noise(9, 8192) + text(10, 600_000),
    b"nothing here": None,
    b"a/b/c/d/nor here": None,
    b"a/b/c/d.txt": b"deep",
    b"-rf": b"not an option",
    b"a%b+c#d=e@f,g;h&i'j$k`l!m": b"",
    "café/日本/😀.txt".encode(): b"utf-8",
    b"n" * 255: b"long",
    b"n" * 100: b"as long as a tar's header takes",
    b"n" * 101: b"longer",
    ("ü" * 127).encode(): b"long, too",
    b"/".join([b"m" * 200] * 5) + b"/file": b"far down",
    **{b"many/%04d" % number: text(number, number) for number in range(1100)},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tree")
    write(path, TREE)
    return path


@pytest.mark.parametrize(("form", "stored"), FORMS)
async def test_every_program_finds_all_of_it(
    root: Path, tmp_path: Path, helpers: Helpers, form: Format, stored: bool
) -> None:
    """Byte for byte, with the time of the last change and the right to be executed."""
    path = tmp_path / f"archive.{form.value}"
    expected = tools.found_in(root)
    await packed(root, form, helpers, path, stored=stored)

    tools.check(form, path)
    for name, extract in tools.EXTRACTORS[form].items():
        extract(path, tmp_path / name)
        found = tools.found_in(tmp_path / name)
        assert found.keys() == expected.keys(), name
        for member, was in expected.items():
            if name == "zipfile" and was is not None:  # it restores neither
                assert found[member] is not None
                assert found[member][0] == was[0]
            else:
                assert found[member] == was, (name, member)


def _infos(path: Path, form: Format) -> Iterator[tuple[str, int]]:
    if form is Format.ZIP:
        with zipfile.ZipFile(path) as archive:
            yield from ((info.filename, info.external_attr >> 16) for info in archive.infolist())
        return
    with tarfile.open(path) as archive:
        for info in archive:
            assert (info.uid, info.gid, info.uname, info.gname) == (0, 0, "", "")
            yield info.name + "/" * info.isdir(), info.mode


@pytest.mark.parametrize("form", [Format.ZIP, Format.TAR, Format.TAR_GZ])
async def test_rights_are_reduced_to_whether_it_can_be_executed(
    tmp_path: Path, helpers: Helpers, form: Format
) -> None:
    root = tmp_path / "tree"
    write(root, {b"setuid": b"", b"group": b"", b"secret": b"", b"dir": None})
    for name, mode in {"setuid": 0o4755, "group": 0o2710, "secret": 0o600, "dir": 0o1777}.items():
        os.chmod(root / name, mode)
    await packed(root, form, helpers, tmp_path / "archive")

    kind = 0o777 if form is not Format.ZIP else 0o7777
    modes = {name: mode & kind for name, mode in _infos(tmp_path / "archive", form)}
    assert modes == {"setuid": 0o755, "group": 0o755, "secret": 0o644, "dir/": 0o755}


TIMES = {
    b"beginning": 0,
    b"before it": -1,
    b"long before": -(10**10),
    b"MS-DOS' first": 315_532_800,
    b"32 bits' last": (1 << 31) - 1,
    b"beyond that": 1 << 31,
    b"2200-01-01": 7_258_118_400,
    b"beyond ustar": 8**11,
}


@pytest.mark.parametrize("form", list(Format))
async def test_times_of_every_kind_leave_the_archive_valid(
    tmp_path: Path, helpers: Helpers, form: Format
) -> None:
    """Formats that cannot hold a time hold the nearest one that they can."""
    root = tmp_path / "tree"
    write(root, dict.fromkeys(TIMES, b"x"))
    for name, seconds in TIMES.items():
        os.utime(os.fsencode(root) + b"/" + name, (seconds, seconds))
    kept = {name: int(os.stat(os.fsencode(root) + b"/" + name).st_mtime) for name in TIMES}
    path = tmp_path / "archive"
    await packed(root, form, helpers, path)

    tools.check(form, path)
    extract = tools.EXTRACTORS[form]["bsdtar"]
    extract(path, tmp_path / "out")
    found = tools.found_in(tmp_path / "out")
    for name, seconds in kept.items():
        if form is Format.ZIP and not 0 <= seconds < 1 << 31:
            seconds = min(max(seconds, 315_532_800), 4_354_819_198) & ~1
        assert found[name] == (b"x", max(0, seconds), name in _EXECUTABLE)


_EXECUTABLE = [*TIMES][1::2]


@pytest.mark.parametrize("form", list(Format))
async def test_an_empty_workspace_is_an_archive(
    tmp_path: Path, helpers: Helpers, form: Format
) -> None:
    """Info-ZIP and 7z call none of them an archive, not even their own."""
    (tmp_path / "tree").mkdir()
    path = tmp_path / f"archive.{form.value}"
    await packed(tmp_path / "tree", form, helpers, path)

    if form is Format.ZIP:
        with zipfile.ZipFile(path) as archive:
            assert archive.namelist() == []
    else:
        assert tools.run("bsdtar", "-tf", path) == tools.run("tar", "-taf", path) == ""


_NAMES = st.sampled_from([b"a", b"b", b"c d", "ü".encode(), b"e.txt", b"f" * 120])
_CONTENTS = st.builds(
    lambda kind, number, size: kind(number, size),
    st.sampled_from([noise, text, lambda _, size: bytes(size)]),
    st.integers(0, 9),
    st.one_of(
        st.integers(0, 70_000),
        st.sampled_from([MOST_BYTES - 1, MOST_BYTES, MOST_BYTES + 1, 2 * MOST_BYTES]),
    ),
)
_TREES = st.recursive(
    _CONTENTS | st.none(), lambda below: st.dictionaries(_NAMES, below, max_size=6), max_leaves=12
)


def _flat(tree: object, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes | None]]:
    if isinstance(tree, dict):
        if prefix:
            yield prefix, None
        for name, below in tree.items():
            yield from _flat(below, prefix + b"/" + name if prefix else name)
    elif prefix:
        assert tree is None or isinstance(tree, bytes)
        yield prefix, tree


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=_TREES, form=st.sampled_from(FORMS))
def test_whatever_the_tree_is_it_comes_out_again(
    helpers: Helpers, tree: object, form: tuple[Format, bool]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        temporary = Path(name)
        root, path = temporary / "tree", temporary / "archive"
        root.mkdir()
        write(root, dict(_flat(tree)))
        expected = tools.found_in(root)
        asyncio.run(packed(root, form[0], helpers, path, stored=form[1]))

        if expected or form[0] is not Format.ZIP:  # which bsdtar takes for no archive
            tools.EXTRACTORS[form[0]]["bsdtar"](path, temporary / "out")
            assert tools.found_in(temporary / "out") == expected
