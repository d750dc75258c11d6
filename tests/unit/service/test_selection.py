"""The language of `.gitignore`, with git itself as the judge."""

import os
import random
import re
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.errors import BadParameter
from gateway.domain.paths import WorkspacePath
from gateway.service.selection import LONGEST_PATTERN, MOST, Selector
from tests import needs

CHANCE = random.Random(4095)
RANDOM_NAMES = ["".join(CHANCE.choices("ab", k=250)) for _ in range(21)]


def excluded(patterns: list[str], path: str) -> bool:
    """A trailing slash says that *path* is a directory."""
    selector = Selector.parse(None, patterns)
    assert selector is not None
    return selector.excludes(WorkspacePath.parse(path.encode()), path.endswith("/"))


@pytest.mark.parametrize(
    ("patterns", "inside", "outside"),
    [
        (["*.log"], ["a.log", "x/y/a.log", ".log", "a.log/", "a\nb.log", "x\n/a.log"], ["a.logs"]),
        (["/a"], ["a", "a/", "a/b"], ["x/a", "ab"]),
        (["a/b"], ["a/b", "a/b/c"], ["x/a/b", "a"]),
        (["build/"], ["build/", "x/build/", "build/a"], ["build", "builds/"]),
        (["a?c"], ["abc", "aéc", "a\nc"], ["a/c", "ac", "abbc"]),
        (["[a-c]x"], ["ax", "cx"], ["dx", "x"]),
        (["[!a]x", "[^b]y"], ["bx", "ay"], ["ax", "by"]),
        (["a[!x]b", "a[+-9]b"], ["ayb", "a.b", "a0b"], ["axb"]),
        (["[]a]x", "[]-]y"], ["]x", "ax", "-y"], ["bx"]),
        (["[[a]x", "[a||b]y"], ["[x", "ax", "|y"], ["bx"]),  # `re` would warn of them
        (["[😀-😂]"], ["😁"], ["😎"]),
        (["**/a"], ["a", "x/a", "x/y/a"], ["ba"]),
        (["a/**"], ["a/b", "a/b/", "a/b/c"], ["a", "a/"]),
        (["a/** "], ["a/b", "a/b/c"], ["a", "a/"]),
        (["a/**/"], ["a/b/", "a/b/c"], ["a", "a/", "a/b"]),
        (["/**"], ["a", "a/", "a/b"], []),
        (["a/**/b"], ["a/b", "a/x/b", "a/x/y/b"], ["ab", "a/xb"]),
        (["a**b"], ["ab", "axxb"], ["a/b"]),
        (["**"], ["a", "a/b", "a/"], []),
        (["foo/*"], ["foo/a", "foo/a/b"], ["foo/", "foo"]),
        (["\\!a", "\\#b", "\\*c"], ["!a", "#b", "*c"], ["a", "b", "xc"]),
        (["# no", "", "  ", "a "], ["a"], ["# no", "a "]),
        (["a\\ "], ["a "], ["a"]),
        (["A"], ["A"], ["a"]),
        (["a.b", "(x|y)", "$", "^z"], ["a.b", "(x|y)", "$", "^z"], ["aXb", "x", "z"]),
        (["é"], ["é"], ["e\u0301"]),
        (["[[:alpha:]]x", "[^[:digit:]]y"], ["ax", "ay"], ["1x", "éx", "1y"]),
        (["[z-ab]"], ["z", "b"], ["a", "y"]),
        (["[\\]a]", "[\\a]x"], ["]", "a", "ax"], ["\\", "\\x"]),
        (["[!a]b/c"], ["xb/c"], ["ab/c", "x/b/c"]),
        (["a\\/b"], ["a/b"], ["x/a/b"]),
        (["a**/b"], ["ab", "ax/b", "a/x/b"], ["a", "axb"]),
    ],
)
def test_a_pattern_covers_what_git_says(patterns, inside, outside):
    for path in inside:
        assert excluded(patterns, path), path
    for path in outside:
        assert not excluded(patterns, path), path


@pytest.mark.parametrize(
    ("patterns", "inside", "outside"),
    [
        (["*.log", "!keep.log"], ["a.log"], ["keep.log", "x/keep.log"]),
        (["!keep.log", "*.log"], ["keep.log"], []),
        (["*", "!*/", "!*.py"], ["a.txt", "src/a.txt"], ["src/", "src/x/", "src/a.py"]),
        (["/*", "!/foo", "/foo/*", "!/foo/bar"], ["a", "foo/x"], ["foo/", "foo/bar/", "foo/bar/z"]),
        (["build/", "!build/keep"], ["build/", "build/keep"], []),
        (["logs/**", "!logs/**/", "!.keep"], ["logs/a", "logs/b/a"], ["logs/", "logs/b/.keep"]),
        (["*.log", "!src"], ["src/a.log"], ["src/"]),
        (["a", "!a/"], ["a"], ["a/"]),
    ],
)
def test_the_last_pattern_that_matches_decides_and_an_excluded_directory_is_closed(
    patterns, inside, outside
):
    for path in inside:
        assert excluded(patterns, path), path
    for path in outside:
        assert not excluded(patterns, path), path


def test_a_walk_may_begin_below_an_excluded_directory():
    selector = Selector.parse(None, ["build/", "!c"])
    assert selector is not None

    assert selector.excludes(WorkspacePath.parse(b"a/build/b/c"), is_directory=False)
    assert not selector.excludes(WorkspacePath.parse(b"a/b/c"), is_directory=False)
    assert selector.excludes(WorkspacePath.parse(b"a/build"), is_directory=True)
    assert not selector.excludes(WorkspacePath.parse(b"a"), is_directory=True)


def test_a_glob_lists_what_it_matches_and_what_lies_below():
    selector = Selector.parse("src/*.d", [])
    assert selector is not None

    def listed(path: str) -> bool:
        return selector.lists(WorkspacePath.parse(path.encode()), path.endswith("/"))

    assert listed("src/a.d")
    assert listed("src/a.d/x/y")
    assert not listed("src/")
    assert not listed("src/a.e")
    assert not selector.excludes(WorkspacePath.parse(b"src"), is_directory=True)


def test_exclusions_list_all_that_remains():
    selector = Selector.parse(None, ["a"])
    assert selector is not None

    assert selector.lists(WorkspacePath.parse(b"b"), is_directory=False)


def test_a_name_that_is_not_utf_8_is_matched_as_it_is_listed():
    selector = Selector.parse(None, ["a\uefff"])
    assert selector is not None

    assert selector.excludes(WorkspacePath((b"a\xff",)), is_directory=False)


@pytest.mark.parametrize(
    ("glob", "exclude"), [(None, []), ("", []), (None, ["", "# a"]), (" ", [""])]
)
def test_nothing_asked_is_no_selection(glob, exclude):
    assert Selector.parse(glob, exclude) is None


@pytest.mark.parametrize(
    "pattern",
    ["a\\", "a[", "[a", "[[:alpha:]", "[[:nope:]]", "a/[/]", "!", "/", "//", "a\ud800"],
)
def test_a_malformed_pattern_is_named(pattern):
    with pytest.raises(BadParameter, match=re.escape(f"exclude: {pattern!r} is not")):
        Selector.parse(None, ["fine", pattern])


@pytest.mark.parametrize("glob", ["!a", "#a"])
def test_a_glob_that_would_select_nothing_is_refused(glob):
    with pytest.raises(BadParameter, match=r"^glob: "):
        Selector.parse(glob, [])


def test_patterns_are_bounded():
    Selector.parse("x" * LONGEST_PATTERN, ["a"] * MOST.patterns)

    with pytest.raises(BadParameter, match=r"^exclude: more than 100 patterns$"):
        Selector.parse(None, ["a"] * (MOST.patterns + 1))
    with pytest.raises(BadParameter, match=r"^glob: a pattern is longer than 1024 bytes$"):
        Selector.parse("é" * (LONGEST_PATTERN // 2 + 1), [])
    with pytest.raises(BadParameter, match=r"^exclude: more than 2048 bytes of patterns$"):
        Selector.parse(None, ["x" * LONGEST_PATTERN] * (MOST.bytes // LONGEST_PATTERN) + ["x"])

    Selector.parse("?" * (MOST.wildcards - 1), ["[a*?]**?" * (MOST.wildcards // 8)])
    with pytest.raises(BadParameter, match=r"^exclude: more than 128 of '\*', '\?' and '\['$"):
        Selector.parse(None, ["?" * 64, "*a" * 60, "[a]**b*" * 2])


def test_what_is_learned_of_hostile_names_takes_little_memory():
    def in_use() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    chance = random.Random(1)
    names = [bytes(chance.choices(b"ab", k=250)) for _ in range(100)]
    before, selectors = in_use(), []
    for number in range(15):
        selector = Selector.parse(None, [f"*a{'?' * 60}b{'?' * 60}{number}"])
        assert selector is not None
        for name in names:
            selector.excludes(WorkspacePath((name,)), is_directory=False)
        selectors.append(selector)

    assert in_use() - before < len(selectors) * 2_000_000


@pytest.mark.parametrize("atom", ["?", "*?", "*a", "**/", "[!a]", "[^é-\U0010fffe]", "*[a-😀]"])
def test_no_patterns_within_the_bounds_take_long_or_too_much(atom, capfd):
    """RE2 writes to the process's stderr if it is let."""
    count = MOST.bytes // LONGEST_PATTERN
    wildcards = MOST.wildcards // count // max(1, len(re.findall(r"[*]+|[?[]", atom)))
    patterns = [
        (atom * wildcards).ljust(LONGEST_PATTERN - len(f"{atom * wildcards}".encode()), "x")
        + str(n)
        for n in range(count)
    ]

    started = time.process_time()
    assert not excluded(patterns, "a" * 255)

    assert time.process_time() - started < 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("patterns", "name"),
    [
        (["a*a*a*a*a*a*a*a*b"], "a" * 255),
        (["*a" * 128 + "b"], "a" * 255),
        (["**/a/" * 128 + "b"], "/".join("a" * 2000)),
        (["**/?/" * 64 + "b"], "/".join("a" * 2000)),
        (["**/*a" + "?" * 126], "/".join(["ab" * 50 + "aab" * 30] * 20)),
        (["*" + "ab"[n % 2] + "?" * (12 + n) + "c" for n in range(6)], "/".join(RANDOM_NAMES)),
        (
            [
                "*" + "*".join(RANDOM_NAMES[n][:15][i : i + 3] for i in range(0, 15, 3)) + "c"
                for n in range(21)
            ],
            "/".join(RANDOM_NAMES),
        ),
    ],
)
def test_hostile_patterns_meet_a_hostile_name_in_linear_time(patterns, name):
    selector = Selector.parse(None, patterns)
    assert selector is not None
    path = WorkspacePath.parse(name[:4095].encode())

    started = time.process_time()
    for _ in range(3):
        assert not selector.excludes(path, is_directory=False)

    assert time.process_time() - started < 2


@given(
    st.lists(st.text("ab*?[]!^-\\/:.# \n", max_size=12), max_size=4),
    st.text("ab/.-]\n", max_size=9),
)
def test_any_patterns_are_refused_or_give_an_answer(patterns, name):
    path = WorkspacePath.parse(name.replace("..", "").strip("/").encode())
    try:
        selector = Selector.parse(None, patterns)
    except BadParameter:
        return

    assert selector is None or selector.excludes(path, is_directory=True) in (True, False)


NAMES = ["a", "b", "ab", "a.log", "b.py", "foo", "build", "x y", ".a", "a]b", "-"]
ATOMS = [
    *NAMES[:8],
    "*",
    "?",
    "**",
    "*.log",
    "[ab]",
    "[!a]",
    "[^a]",
    "[a-z]",
    "a*b",
    "*a*",
    "**b",
]
ATOMS += ["\\a", "[]]", "[a-]", "[!]a]"]


def random_pattern(chance: random.Random) -> str:
    body = "/".join(chance.choice(ATOMS) for _ in range(chance.choice([1, 1, 1, 2, 2, 3])))
    return chance.choice(["", "", "", "!", "/", "!/"]) + body + chance.choice(["", "", "/"])


def test_git_agrees(tmp_path: Path):
    """200 random lists of patterns on one tree; every entry, closed directories included."""
    needs.program("git")
    chance = random.Random(9110)
    files = [f"{a}/{b}/{c}" for a in NAMES for b in NAMES[:6] for c in NAMES[:4]]
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    entries = sorted(files) + sorted({file.rpartition("/")[0] for file in files}) + NAMES
    asked = "\0".join(entries)
    for _ in range(200):
        patterns = [random_pattern(chance) for _ in range(chance.randint(1, 4))]
        (tmp_path / ".gitignore").write_text("\n".join(patterns) + "\n")
        answer = subprocess.run(
            ["git", "-C", tmp_path, "check-ignore", "--no-index", "--stdin", "-z"],
            input=asked,
            capture_output=True,
            text=True,
            check=False,
        ).stdout

        selector = Selector.parse(None, patterns)
        assert selector is not None
        ours = {
            entry
            for entry in entries
            if selector.excludes(WorkspacePath.parse(entry.encode()), entry not in files)
        }
        assert ours == set(answer.split("\0")) - {""}, patterns
