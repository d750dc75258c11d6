"""What is wrong with a config, said so that a person can mend it in one go."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

Loc = tuple[str | int, ...]

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong; its text is `source:line: path: what is wrong`."""

    source: str
    line: int | None
    loc: Loc
    message: str

    def __str__(self) -> str:
        where = self.source if self.line is None else f"{self.source}:{self.line}"
        return ": ".join(filter(None, (where, dotted(self.loc), self.message)))


class ConfigError(Exception):
    """A config that cannot be used, with every problem that was found, in the file's order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


def dotted(loc: Loc) -> str:
    """Return *loc* as `auth.keys.0.id`; keys that could mislead are quoted."""
    parts = map(str, loc)
    return ".".join(part if _PLAIN_KEY.fullmatch(part) else repr(part) for part in parts)


def did_you_mean(text: object, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for the nearest of *known*, or nothing."""
    close = get_close_matches(str(text), list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
