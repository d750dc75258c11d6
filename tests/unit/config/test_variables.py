"""Environment variables in a config."""

import pytest

from gateway.config.marked_yaml import read_text
from gateway.config.variables import substitute

ENVIRONMENT = {"A": "1", "EMPTY": "", "TRAP": "x\ny: 2", "NO": "no", "NESTED": "${A}"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${A}", "1"),
        ("x${A}y${A}", "x1y1"),
        ("${EMPTY}", ""),
        ("${EMPTY:-d}", "d"),
        ("${B:-}", ""),
        ("${B:-a b: c}", "a b: c"),
        ("${A:-d}", "1"),
        ("${A:?why}", "1"),
        ("$${A}", "${A}"),
        ("$$${A}", "$${A}"),
        ("$A $ $$ {A}", "$A $ $$ {A}"),
        ("${NESTED}", "${A}"),
    ],
)
def test_substitution(text, expected):
    assert substitute(text, ENVIRONMENT) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("${B}", "the environment variable B is not set"),
        ("${B:?say which}", "the environment variable B is not set: say which"),
        ("${EMPTY:?say which}", "the environment variable EMPTY is not set: say which"),
        ("${}", "'${}' is not ${VAR}"),
        ("${A", "'${A' is not ${VAR}"),
        ("${1}", "'${1}' is not ${VAR}"),
        ("${A-x}", "'${A-x}' is not ${VAR}"),
        ("${A:-${B}}", "'${A:-${B}' is not ${VAR}"),
    ],
)
def test_what_is_said(text, said):
    with pytest.raises(ValueError, match=r".") as caught:
        substitute(text, ENVIRONMENT)

    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: ${A}", {"a": 1}),
        ('a: "${A}"', {"a": "1"}),
        ("a: '${A}'", {"a": "1"}),
        ("a: !!str 1", {"a": "1"}),
        ("a: ${EMPTY}", {"a": None}),
        ("a: ${B:-true}", {"a": True}),
        ("a: ${TRAP}", {"a": "x\ny: 2"}),
        ("a: ${NO}", {"a": "no"}),
        ("${A}: 1", {"${A}": 1}),
    ],
)
def test_a_variable_is_typed_like_what_is_written_there(text, expected):
    """It never becomes structure, and quotes keep it text."""
    document = read_text(text, "c.yaml", ENVIRONMENT)

    assert document.data == expected
    assert document.problems == []
