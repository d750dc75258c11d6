"""Reading and writing YAML, whatever stands in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.errors import ConfigError
from gateway.config.load import from_mapping
from gateway.config.marked_yaml import read_text
from gateway.config.written_yaml import written
from tests.unit.config.models import EXECUTORS

WORDS = st.sampled_from(
    ["server:", "port: ", "executors:", "type: local", "- ", "\n", "\n  ", "{", "}", "[", "]", ": ",
     "&a ", "*a", "!!str ", "!!int ", "!x ", "<<: ", "? ", "|", ">", '"', "'", "\\", "%YAML 1.1\n",
     "%TAG ! x", "---", "...", "#", "${A}", "${B:-c}", "$${", "~", "null", "true", "0", "1.5",
     "\t", "\ufeff", "\x00", "\x85", "\u2028", "\ud800"]
)  # fmt: skip
TEXT = st.one_of(st.text(), st.lists(st.one_of(WORDS, st.text(max_size=3))).map("".join))

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**17), 10**17),
    st.sampled_from([0.5, -1.25, 10.0]),
    st.text(st.characters(codec="utf-8")),
    st.sampled_from(
        ["", "~", "yes", "no", "1", "0123", "1.5", "1:30", "${A}", "$${", "a: b", "- x"]
    ),
)
KEYS = st.from_regex(r"[A-Za-z0-9_.-]{1,8}", fullmatch=True)
DATA = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4)
)


@given(TEXT)
def test_no_text_does_worse_than_a_problem(text):
    said = ["c.yaml"]
    try:
        document = read_text(text, "c.yaml", {"A": "1"})
        data = document.data if isinstance(document.data, dict) else {}
        from_mapping(data, EXECUTORS, "c.yaml")
    except ConfigError as exc:
        said = [str(problem) for problem in exc.problems]

    assert said
    assert all(problem.startswith("c.yaml") for problem in said)


@given(
    st.dictionaries(st.sampled_from(["server", "auth", "limits", "executors", "placement"]), DATA)
)
def test_no_data_does_worse_than_a_problem(data):
    with pytest.raises(ConfigError):
        from_mapping(data, EXECUTORS, "here")


@given(DATA)
def test_what_is_written_is_read_back(data):
    document = read_text(written(data), "c.yaml", {})

    assert document.data == data
    assert document.problems == []


def test_lines_are_remembered():
    document = read_text("a:\n  - 1\n  - b: 2\n", "c.yaml", {})

    assert document.lines == {(): 1, ("a",): 1, ("a", 0): 2, ("a", 1): 3, ("a", 1, "b"): 3}
