"""Single patterns and lists of them, of any bytes, with git itself as the judge."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.service.patterns import Pattern, Patterns, Reading
from tests import needs

NAMES = [
    b"a",
    b"ab",
    b"aab",
    b"b c",
    b"-",
    b"]",
    b"[",
    b"\\",
    b"!",
    b"#",
    b"1",
    b"\xc3\xa9",
    b"\xff",
]
ATOMS = [
    *NAMES[:4],
    *(b"*", b"**", b"***", b"?", b"[", b"]", b"[!", b"[^", b"-", b"\\", b"!", b"#", b" ", b"/"),
    *(b"[ab]", b"[!a]", b"[a-b]", b"[]-]", b"[b-a]", b"[[:alpha:]", b"[[:punct:]]", b"[:", b":]"),
    *(b"\xc3", b"\xa9", b"\xff", b"\t", b"1", b"/**", b"**/", b"/**/"),
]
LINES = st.lists(st.sampled_from(ATOMS), min_size=1, max_size=6).map(b"".join)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of directories and files, three levels deep."""
    needs.program("git")
    path = tmp_path_factory.mktemp("tree")
    for first in NAMES:
        for second in NAMES[:6]:
            directory = os.path.join(os.fsencode(path), b"d" + first, second)
            os.makedirs(directory)
            for name in NAMES:
                open(os.path.join(directory, b"x" + name), "wb").close()
        os.makedirs(os.path.join(os.fsencode(path), first, b"ab", b"a"))
    subprocess.run(["git", "init", "-q", path], check=True)
    return path


def entries(tree: Path) -> dict[bytes, bool]:
    """The paths below *tree*, and whether they are directories."""
    found = {}
    for base, directories, files in os.walk(os.fsencode(tree)):
        below = os.path.relpath(base, os.fsencode(tree)) + b"/"
        below = below.removeprefix(b"./")
        if below.startswith(b".git/"):
            continue
        found |= {below + name: True for name in directories if name != b".git"}
        found |= {below + name: False for name in files if name != b".gitignore"}
    return found


def ignored(lines: list[bytes], paths: dict[bytes, bool]) -> set[bytes]:
    """What the patterns exclude, of itself or with what lies above it."""
    patterns = []
    for line in lines:
        try:
            patterns.append(Pattern.parse(line.decode("latin-1")))
        except ValueError:
            continue
    judge = Patterns([pattern for pattern in patterns if pattern], Reading.BYTES, 1 << 23)
    excluded: set[bytes] = set()
    for path, is_directory in sorted(paths.items()):
        if path.rpartition(b"/")[0] in excluded or judge.verdict(path.split(b"/"), is_directory):
            excluded.add(path)
    return excluded


@given(lines=st.lists(LINES, min_size=1, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_git_agrees(tree: Path, lines: list[bytes]):
    paths = entries(tree)
    (tree / ".gitignore").write_bytes(b"\n".join(lines) + b"\n")
    answer = subprocess.run(
        ["git", "-C", tree, "check-ignore", "--no-index", "--stdin", "-z"],
        input=b"\0".join(paths),
        capture_output=True,
        check=False,
    ).stdout

    assert ignored(lines, paths) == set(answer.split(b"\0")) - {b""}


def test_too_little_memory_is_an_error():
    """Else nothing would be matched, and nobody told."""
    pattern = Pattern.parse("x" * 1000)
    assert pattern is not None

    assert Patterns([pattern], Reading.BYTES, 1 << 17).verdict([b"x" * 1000], is_directory=False)
    with pytest.raises(ValueError, match="too much memory"):
        Patterns([pattern], Reading.BYTES, 1 << 16)
