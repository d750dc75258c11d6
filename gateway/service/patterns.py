"""Patterns in the language of `.gitignore`, read as git reads them and matched by RE2."""

import re
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import NamedTuple, Self

import re2

from gateway.domain.paths import name_to_text

_WILDCARD = re.compile(r"\*+|[?[]")
_KEPT = re.compile(r"(?s)(?: *(?:\\.|[^ ]))*")  # all but the spaces at the end
_LITERAL = re.compile(r"[^*?[\\]+")
_NAMED = re.compile(r"\[:([^\]]*):\]")
_SLASH = ord("/")

Ranges = tuple[tuple[int, int], ...]
_DIGIT = ((0x30, 0x39),)
_UPPER = ((0x41, 0x5A),)
_LOWER = ((0x61, 0x7A),)
_CLASSES: dict[str, Ranges] = {
    "alnum": _DIGIT + _UPPER + _LOWER,
    "alpha": _UPPER + _LOWER,
    "blank": ((0x09, 0x09), (0x20, 0x20)),
    "cntrl": ((0x01, 0x1F), (0x7F, 0x7F)),
    "digit": _DIGIT,
    "graph": ((0x21, 0x7E),),
    "lower": _LOWER,
    "print": ((0x20, 0x7E),),
    "punct": ((0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E)),
    "space": ((0x09, 0x0D), (0x20, 0x20)),
    "upper": _UPPER,
    "xdigit": (*_DIGIT, (0x41, 0x46), (0x61, 0x66)),
}


class Extent(NamedTuple):
    """How much patterns are: their number, their bytes, and `?`, `[...]` and runs of `*` in all."""

    patterns: int = 0
    bytes: int = 0
    wildcards: int = 0

    @classmethod
    def of(cls, lines: Sequence[str]) -> Self:
        """The extent of *lines*, each of them a pattern."""
        sizes = (len(line.encode(errors="surrogatepass")) for line in lines)
        wildcards = (len(_WILDCARD.findall(line)) for line in lines)
        return cls(len(lines), sum(sizes), sum(wildcards))

    def plus(self, *others: "Extent") -> "Extent":
        """All of them together."""
        return Extent(*map(sum, zip(self, *others, strict=True)))

    def excess(self, most: "Extent") -> str | None:
        """What there is more of than in *most*, in words; None if there is nothing."""
        if self.patterns > most.patterns:
            return f"more than {most.patterns} patterns"
        if self.bytes > most.bytes:
            return f"more than {most.bytes} bytes of patterns"
        if self.wildcards > most.wildcards:
            return f"more than {most.wildcards} of '*', '?' and '['"
        return None


class Reading(Enum):
    """What `?` and a set stand for."""

    CHARACTERS = "utf-8"  # as people mean it, and paths are shown
    BYTES = "latin-1"  # as git does it; the text of a pattern is a character for each byte


class Pattern(NamedTuple):
    """One pattern: *regex* is for the whole of a path, with a `d` (directory) or `f` before it."""

    regex: str
    excludes: bool

    @classmethod
    def parse(cls, line: str) -> Self | None:
        """What *line* means, None if it is empty or a comment.

        Raises `ValueError` for what matches nothing, whatever there is.
        """
        kept = _KEPT.match(line)
        body = kept[0] if kept else ""
        if not body or body.startswith("#"):
            return None
        excludes = not body.startswith("!")
        body = body.removeprefix("!")
        kind = "d" if body.endswith("/") else "."
        body = body.removesuffix("/")
        where = "" if "/" in body else "(?:.*/)?"
        body = body.removeprefix("/")
        if not body:
            raise ValueError("the pattern has no name")
        try:
            regex = _translated(body, is_path=not where)
        except (IndexError, KeyError) as exc:
            raise ValueError("the pattern is not complete") from exc
        return cls(kind + where + regex, excludes)


class Patterns:
    """Patterns of which the last that matches decides.

    Both they and the names may come from an attacker: `re` would take exponential time and keep
    the GIL. RE2 matches all patterns at once, without the GIL, in time linear in the name. Names
    that lead it to new states all the time still cost it a lot: bound the `Extent`.
    """

    def __init__(self, patterns: Iterable[Pattern], reading: Reading, memory: int) -> None:
        """*memory* is how many bytes RE2 may take; raises `ValueError` if that is too little."""
        options = re2.Options()
        options.log_errors = False
        options.never_capture = True
        options.dot_nl = True
        if reading is Reading.BYTES:
            options.encoding = re2.Options.Encoding.LATIN1
        options.max_mem = memory
        self._is_bytes = reading is Reading.BYTES
        self._set = re2.Set.FullMatchSet(options)
        # The first matches always: a failure, too, RE2 would tell as no match.
        self._set.Add(b".*")
        self._verdicts: list[bool | None] = [None]
        try:
            for pattern in patterns:
                self._set.Add(pattern.regex.encode(reading.value))
                self._verdicts.append(pattern.excludes)
            self._set.Compile()
        except re2.error as exc:
            raise ValueError("the patterns take too much memory") from exc

    def verdict(self, parts: Sequence[bytes], is_directory: bool) -> bool | None:
        """Whether the entry is excluded; None if no pattern matches it.

        *parts* are its path from the directory to which the patterns are relative.
        """
        path = (b"d" if is_directory else b"f") + b"/".join(parts)
        text = path if self._is_bytes else name_to_text(path)
        matching: list[int] = self._set.Match(text)
        return self._verdicts[max(matching)]


def _translated(body: str, *, is_path: bool) -> str:
    """The regex for *body*; raise `IndexError` or `KeyError` where something is missing."""
    regex: list[str] = []
    at = 0
    while at < len(body):
        if body[at] == "*":
            # git compares the literal text at the beginning by itself, so that to its matcher a
            # `**` right behind it is the beginning of a path.
            begins = at == 0 or body[at - 1] == "/" or regex == [re.escape(body[:at])]
            piece, at = _stars(body, at, begins=is_path and begins)
        elif body[at] == "?":
            piece, at = "[^/]", at + 1
        elif body[at] == "[":
            piece, at = _set(body, at + 1)
        elif literal := _LITERAL.match(body, at):
            piece, at = re.escape(literal[0]), literal.end()
        else:
            piece, at = re.escape(body[at + 1]), at + 2
        regex.append(piece)
    return "".join(regex)


def _stars(body: str, at: int, *, begins: bool) -> tuple[str, int]:
    """The regex of the run of `*` at *at*, and where the rest goes on.

    Two and more stand for directories, too, if a path *begins* there, and its name ends.
    """
    end = next((n for n in range(at, len(body)) if body[n] != "*"), len(body))
    if end - at == 1 or not begins or body[end : end + 1] not in ("", "/"):
        return "[^/]*", end
    return (".*", end) if end == len(body) else ("(?:.*/)?", end + 1)


def _set(body: str, at: int) -> tuple[str, int]:
    """The regex of the set whose first character is at *at*, and where the rest goes on."""
    negated = body[at] in "!^"
    at += negated
    first = at
    ranges: list[tuple[int, int]] = []
    lowest = ""
    while at == first or body[at] != "]":
        named = _NAMED.match(body, at)
        if named:
            ranges += _CLASSES[named[1]]
            lowest, at = "", named.end()
        elif body[at] == "-" and lowest and body[at + 1] != "]":
            highest, at = _character(body, at + 1)
            ranges.append((ord(lowest), ord(highest)))
            lowest = ""
        else:
            lowest, at = _character(body, at)
            ranges.append((ord(lowest), ord(lowest)))
    return _class(ranges, negated=negated), at + 1


def _class(ranges: Iterable[tuple[int, int]], *, negated: bool) -> str:
    """One character in *ranges*, or none of them; never a slash."""
    apart = [
        piece
        for low, high in ranges
        for piece in ((low, min(high, _SLASH - 1)), (max(low, _SLASH + 1), high))
        if piece[0] <= piece[1]
    ]
    if not apart and not negated:
        raise ValueError("a set is empty")
    members = "".join(f"\\x{{{low:x}}}-\\x{{{high:x}}}" for low, high in apart)
    return f"[^/{members}]" if negated else f"[{members}]"


def _character(body: str, at: int) -> tuple[str, int]:
    """The character at *at*, of which a backslash may stand before it, and where the rest is."""
    return (body[at + 1], at + 2) if body[at] == "\\" else (body[at], at + 1)
