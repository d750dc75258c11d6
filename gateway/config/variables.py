"""Puts environment variables where a config says `${VAR}`."""

import re
from collections.abc import Mapping

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_INSIDE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:(:-|:\?)(.*))?", re.DOTALL)


def substitute(text: str, environment: Mapping[str, str]) -> str:
    """Replace `${VAR}`, `${VAR:-default}` and `${VAR:?message}`; `$${` stands for `${`.

    As in a shell, an empty variable counts as unset after `:`. Raises ValueError with a message
    for people, which never holds the value of a variable.
    """
    return _REFERENCE.sub(lambda found: _value(found, environment), text)


def _value(found: re.Match[str], environment: Mapping[str, str]) -> str:
    if found[0] == "$${":
        return "${"
    inside = _INSIDE.fullmatch(found[1])
    if inside is None or not found[2] or "${" in found[1]:
        raise ValueError(
            f"{found[0]!r} is not ${{VAR}}, ${{VAR:-default}} or ${{VAR:?message}}; "
            "a literal ${ is written $${"
        )
    name, operator, argument = inside.groups()
    value = environment.get(name)
    if value is None and operator is None:
        raise ValueError(f"the environment variable {name} is not set")
    if not value and operator == ":?":
        raise ValueError(f"the environment variable {name} is not set: {argument}")
    if not value and operator == ":-":
        return str(argument)
    return value or ""
