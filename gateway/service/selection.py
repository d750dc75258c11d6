"""Which entries of a walk are wanted: a glob and exclusions in the language of `.gitignore`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import re2

from gateway.domain.errors import BadParameter
from gateway.domain.paths import WorkspacePath

MOST_PATTERNS = 100
LONGEST_PATTERN = 1024  # bytes

_CLASSES = {  # POSIX character classes as pairs of first and last
    "alnum": "09AZaz",
    "alpha": "AZaz",
    "blank": "\t\t  ",
    "cntrl": "\x00\x1f\x7f\x7f",
    "digit": "09",
    "graph": "!~",
    "lower": "az",
    "print": " ~",
    "punct": "!/:@[`{~",
    "space": "\t\r  ",
    "upper": "AZ",
    "xdigit": "09AFaf",
}


class Selector:
    """A `Selection` by gitignore patterns relative to the workspace's root; for one walk."""

    def __init__(self, glob: "_Patterns | None", exclude: "_Patterns | None") -> None:
        self._glob = glob
        self._exclude = exclude

    @classmethod
    def parse(cls, glob: str | None, exclude: Sequence[str]) -> Self | None:
        """Return what the parameters ask for, None if nothing; raise `BadParameter`.

        A pattern of *exclude* that begins with `!` takes back what the ones before it excluded.
        """
        if glob is not None and glob.startswith(("!", "#")):
            raise BadParameter(
                f"glob: {glob!r} selects nothing; write \\{glob[0]} for the character"
            )
        wanted = _Patterns.parse("glob", [] if glob is None else [glob])
        unwanted = _Patterns.parse("exclude", exclude)
        return cls(wanted, unwanted) if wanted or unwanted else None

    def excludes(self, path: WorkspacePath, is_directory: bool) -> bool:
        """Whether the entry, or a directory above it, is excluded."""
        return self._exclude is not None and self._exclude.cover(path, is_directory)

    def lists(self, path: WorkspacePath, is_directory: bool) -> bool:
        """Whether the glob, if there is one, matches the entry or a directory above it."""
        return self._glob is None or self._glob.cover(path, is_directory)


@dataclass(frozen=True, slots=True)
class _Rule:
    regex: str
    covers: bool
    directories_only: bool


class _Patterns:
    """Rules of which the last that matches decides, as in git.

    Not pathspec's `GitIgnoreSpec`: 1.1.1 keeps `src/` excluded by `*`, `!*/`, `!*.py`, lets `[!a]`
    match a slash, knows no `[[:alpha:]]`, and misses names with line ends.
    """

    def __init__(self, rules: Sequence[_Rule], matcher: "re2.Set") -> None:
        self._rules = rules
        self._matcher = matcher
        self._above: tuple[bytes, ...] = ()  # the directories above the entry asked for last
        self._covered: list[bool] = []  # whether each of them is covered

    @classmethod
    def parse(cls, parameter: str, lines: Sequence[str]) -> Self | None:
        if len(lines) > MOST_PATTERNS:
            raise BadParameter(f"{parameter}: more than {MOST_PATTERNS} patterns")
        rules = [rule for line in lines if (rule := _rule(parameter, line)) is not None]
        if not rules:
            return None
        try:
            return cls(rules, _matcher(rules))
        except re2.error:
            raise BadParameter(f"{parameter}: the patterns are too complex") from None

    def cover(self, path: WorkspacePath, is_directory: bool) -> bool:
        """Whether the entry is covered, by itself or with a directory above it."""
        above = path.parts[:-1]
        if above != self._above:
            self._enter(above)
        return (bool(above) and self._covered[-1]) or self._match(path, is_directory)

    def _enter(self, above: tuple[bytes, ...]) -> None:
        # A walk asks branch by branch, so that nearly all of the way down is known already.
        known = 0
        for old, new in zip(self._above, above, strict=False):
            if old != new:
                break
            known += 1
        del self._covered[known:]
        for depth in range(known + 1, len(above) + 1):
            inherited = depth > 1 and self._covered[-1]
            self._covered.append(inherited or self._match(WorkspacePath(above[:depth]), True))
        self._above = above

    def _match(self, path: WorkspacePath, is_directory: bool) -> bool:
        last = -1
        for index in self._matcher.Match(path.relative) or ():
            if index > last and (is_directory or not self._rules[index].directories_only):
                last = index
        return last >= 0 and self._rules[last].covers


def _matcher(rules: Sequence[_Rule]) -> "re2.Set":
    # The client writes the patterns and the agent the names, so either can attack: `re` would
    # take exponential time and keep the GIL. RE2 takes linear time, without the GIL, for all
    # rules at once. The memory bounds the work for each byte of a name, too.
    options = re2.Options()
    options.max_mem = 2 << 20
    options.dot_nl = True
    options.never_capture = True
    options.log_errors = False
    matcher = re2.Set.FullMatchSet(options)
    for rule in rules:
        matcher.Add(rule.regex)
    matcher.Compile()
    return matcher


def _rule(parameter: str, line: str) -> _Rule | None:
    """One line of a `.gitignore`; None for a blank or a comment."""
    try:
        if len(line.encode()) > LONGEST_PATTERN:
            raise BadParameter(f"{parameter}: a pattern is longer than {LONGEST_PATTERN} bytes")
        text = _trimmed(line)
        if not text or text.startswith("#"):
            return None
        body = text.removeprefix("!").removesuffix("/")
        return _Rule(_translated(body), not text.startswith("!"), text.endswith("/"))
    except ValueError as exc:
        raise BadParameter(f"{parameter}: {line!r} is not a gitignore pattern") from exc


def _trimmed(line: str) -> str:
    text = line.rstrip(" ")
    escapes = len(text) - len(text.rstrip("\\"))
    return text + " " if escapes % 2 and text != line else text


def _translated(pattern: str) -> str:
    """The regular expression of a pattern; raise `ValueError` if it is malformed."""
    if not pattern:
        raise ValueError("the pattern is empty")
    regex = [] if "/" in pattern else ["(?:.*/)?"]
    position = int(pattern.startswith("/"))
    while position < len(pattern):
        character = pattern[position]
        if character == "*":
            piece, position = _stars(pattern, position)
        elif character == "[":
            piece, position = _bracket(pattern, position + 1)
        elif character == "?":
            piece, position = "[^/]", position + 1
        else:
            literal, position = _literal(pattern, position)
            piece = re2.escape(literal)
        regex.append(piece)
    return "".join(regex)


def _stars(pattern: str, start: int) -> tuple[str, int]:
    end = start
    while pattern.startswith("*", end):
        end += 1
    if end - start > 1 and pattern[start - 1 : start] in ("", "/"):
        if end == len(pattern):
            return ".*", end
        if pattern[end] == "/":
            return "(?:.*/)?", end + 1
    return "[^/]*", end


def _bracket(pattern: str, start: int) -> tuple[str, int]:
    negated = pattern.startswith(("!", "^"), start)
    position = first = start + negated
    ranges: list[tuple[str, str]] = []
    while position == first or not pattern.startswith("]", position):
        end = pattern.find("]", position + 2)
        if pattern.startswith("[:", position) and end > 0 and pattern[end - 1] == ":":
            pairs = _CLASSES.get(pattern[position + 2 : end - 1])
            if pairs is None:
                raise ValueError("no such character class")
            ranges += zip(pairs[::2], pairs[1::2], strict=True)
            position = end + 1
            continue
        low, position = _literal(pattern, position)
        high = low
        if pattern.startswith("-", position) and not pattern.startswith("-]", position):
            high, position = _literal(pattern, position + 1)
        ranges.append((low, max(low, high)))
    return _character_class(ranges, negated), position + 1


def _character_class(ranges: Sequence[tuple[str, str]], negated: bool) -> str:
    # A slash is never matched by a bracket, named or not.
    if negated:
        return "[^/" + "".join(_span(low, high) for low, high in ranges) + "]"
    spans = [
        _span(*part)
        for low, high in ranges
        for part in ((low, min(high, ".")), (max(low, "0"), high))
        if part[0] <= part[1]
    ]
    return f"[{''.join(spans)}]" if spans else r"[^\x00-\x{10FFFF}]"


def _span(low: str, high: str) -> str:
    return rf"\x{{{ord(low):x}}}-\x{{{ord(high):x}}}"


def _literal(pattern: str, position: int) -> tuple[str, int]:
    escaped = pattern.startswith("\\", position)
    character = pattern[position + escaped : position + escaped + 1]
    if not character:
        raise ValueError("the pattern ends too early")
    return character, position + escaped + 1
