"""Which entries of a walk are wanted: a glob and exclusions in the language of `.gitignore`."""

import re
import sys
from collections.abc import Sequence
from itertools import takewhile
from operator import eq
from typing import Self

import re2
from pathspec import PathSpec
from pathspec.pattern import RegexPattern
from pathspec.patterns.gitignore.basic import GitIgnoreBasicPattern

from gateway.domain.errors import BadParameter
from gateway.domain.paths import WorkspacePath

MOST_PATTERNS = 100
LONGEST_PATTERN = 1024  # bytes
MOST_BYTES = 2048  # of all patterns together
MOST_WILDCARDS = 128  # of all patterns together; each `?`, `[...]`, and run of `*` is one

_WILDCARD = re.compile(r"\*+|[?[]")
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False


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


class _Patterns:
    """Patterns of which the last that matches decides, as in git.

    Where pathspec is not git: `[!a]` matches a slash, too, `[a` and the backslash of `[\\a]` mean
    themselves, `/` is everything, and `[[:alpha:]]` and `a\\/b` are refused.
    """

    def __init__(self, patterns: Sequence[RegexPattern]) -> None:
        self._spec = PathSpec(patterns, backend="re2")
        self._above: tuple[bytes, ...] = ()  # the directories above the entry asked for last
        self._closed = sys.maxsize  # the depth of the first of them that is covered

    @classmethod
    def parse(cls, parameter: str, lines: Sequence[str]) -> Self | None:
        """The patterns of a query *parameter*, None if there are none; raise `BadParameter`."""
        sizes = [len(line.encode(errors="surrogatepass")) for line in lines]
        if len(lines) > MOST_PATTERNS:
            raise BadParameter(f"{parameter}: more than {MOST_PATTERNS} patterns")
        if max(sizes, default=0) > LONGEST_PATTERN:
            raise BadParameter(f"{parameter}: a pattern is longer than {LONGEST_PATTERN} bytes")
        if sum(sizes) > MOST_BYTES:
            raise BadParameter(f"{parameter}: more than {MOST_BYTES} bytes of patterns")
        if sum(len(_WILDCARD.findall(line)) for line in lines) > MOST_WILDCARDS:
            raise BadParameter(f"{parameter}: more than {MOST_WILDCARDS} of '*', '?' and '['")
        patterns = [_pattern(parameter, line) for line in lines]
        return cls(patterns) if any(pattern.regex for pattern in patterns) else None

    def cover(self, path: WorkspacePath, is_directory: bool) -> bool:
        """Whether the entry is covered, by itself or with a directory above it."""
        above = path.parts[:-1]
        if above != self._above:
            # A walk asks branch by branch, so that nearly all of the way down is known already.
            known = len([*takewhile(bool, map(eq, above, self._above))])
            if self._closed > known:
                depths = range(known + 1, len(above) + 1)
                covered = (n for n in depths if self._match(WorkspacePath(above[:n]), True))
                self._closed = next(covered, sys.maxsize)
            self._above = above
        return self._closed <= len(above) or self._match(path, is_directory)

    def _match(self, path: WorkspacePath, is_directory: bool) -> bool:
        return self._spec.match_file(path.relative + "/" if is_directory else path.relative)


def _pattern(parameter: str, line: str) -> RegexPattern:
    # The client writes the patterns and the agent the names, so either can attack: `re` would
    # take exponential time and keep the GIL. RE2 matches all patterns at once, without the GIL, in
    # time linear in the name. Names that lead it to new states all the time still cost it a lot:
    # within the bounds above, 3 ms for a name of 255 bytes and 55 ms for a path of 4,095 are the
    # worst found. pathspec has no use for `re` when it is handed them compiled.
    #
    # Its regex of a pattern also matches whatever lies below, so that `!*/` would take back all
    # files, and it lets `a/**` match `a/` and no `.` a line end; git does none of that.
    try:
        text = re.sub(r"/\*\*(?=/?\s*$)", "/**/*", line)
        regex, include = GitIgnoreBasicPattern.pattern_to_regex(text)
        return RegexPattern(regex and re2.compile(f"(?s){regex}$", _OPTIONS), include)
    except (ValueError, re2.error) as exc:
        raise BadParameter(f"{parameter}: {line!r} is not a gitignore pattern") from exc
