"""Which entries of a walk are wanted: a glob and exclusions in the language of `.gitignore`."""

import sys
from collections.abc import Mapping, Sequence
from itertools import takewhile
from operator import eq
from typing import NamedTuple, Self

from gateway.domain.errors import BadParameter
from gateway.domain.paths import WorkspacePath
from gateway.service.patterns import Extent, Pattern, Patterns, Reading

LONGEST_PATTERN = 1024  # bytes
# Within these, 3 ms for a name of 255 bytes and 55 ms for a path of 4,095 are the worst found.
MOST = Extent(patterns=100, bytes=2048, wildcards=128)
_MEMORY = 1 << 20  # bytes for what RE2 learns of names: more makes hostile patterns no faster

Parts = tuple[bytes, ...]


class Selector:
    """A `Selection` by gitignore patterns; walks that go branch by branch get quick answers."""

    def __init__(self, glob: "Cover | None", exclude: "Cover | None") -> None:
        self._glob = glob
        self._exclude = exclude

    @classmethod
    def parse(cls, glob: str | None, exclude: Sequence[str]) -> Self | None:
        """Return what the parameters ask for, None if nothing; raise `BadParameter`.

        A pattern of *exclude* that begins with `!` takes back what the ones before it excluded.
        """
        if glob is None and not exclude:
            return None
        if glob is not None and glob.startswith(("!", "#")):
            raise BadParameter(
                f"glob: {glob!r} selects nothing; write \\{glob[0]} for the character"
            )
        wanted = parsed("glob", [] if glob is None else [glob])
        unwanted = parsed("exclude", exclude)
        if not wanted and not unwanted:
            return None
        return cls(
            Cover(compiled("glob", wanted)) if wanted else None,
            Cover(compiled("exclude", unwanted)) if unwanted else None,
        )

    def excludes(self, path: WorkspacePath, is_directory: bool) -> bool:
        """Whether the entry, or a directory above it, is excluded."""
        return self._exclude is not None and self._exclude(path, is_directory)

    def lists(self, path: WorkspacePath, is_directory: bool) -> bool:
        """Whether the glob, if there is one, matches the entry or a directory above it."""
        return self._glob is None or self._glob(path, is_directory)


def parsed(parameter: str, lines: Sequence[str]) -> list[Pattern]:
    """The patterns that the client wrote for *parameter*; raise `BadParameter`."""
    if any(Extent.of([line]).bytes > LONGEST_PATTERN for line in lines):
        raise BadParameter(f"{parameter}: a pattern is longer than {LONGEST_PATTERN} bytes")
    excess = Extent.of(lines).excess(MOST)
    if excess:
        raise BadParameter(f"{parameter}: {excess}")
    patterns = []
    for line in lines:
        try:
            line.encode()
            patterns.append(Pattern.parse(line))
        except ValueError as exc:
            raise BadParameter(f"{parameter}: {line!r} is not a gitignore pattern") from exc
    return [pattern for pattern in patterns if pattern]


def compiled(parameter: str, patterns: Sequence[Pattern]) -> Patterns:
    """What decides by the *patterns* that the client wrote; raise `BadParameter`."""
    try:
        return Patterns(patterns, Reading.CHARACTERS, _MEMORY)
    except ValueError as exc:
        raise BadParameter(f"{parameter}: {exc}") from exc


Chain = tuple[tuple[int, Patterns], ...]
"""Patterns that speak of what is in a directory, and how deep what they are relative to lies.

What comes first is heard first.
"""


class _Way(NamedTuple):
    """The directories down to one: the *chains* of all of them that are not covered.

    *closed* is the depth of the first that is.
    """

    above: Parts
    closed: int
    chains: tuple[Chain, ...]


class Cover:
    """What patterns cover: an entry by itself, or with a directory above it.

    Those of *asked*, relative to the root, win over those of *own*, relative to their directories,
    the deepest first.
    """

    def __init__(self, asked: Patterns, own: Mapping[Parts, Patterns] | None = None) -> None:
        self._own = dict(own or {})
        first: Chain = ((0, asked),)
        self._way = _Way((), sys.maxsize, (self._longer(first, ()),))

    def __call__(self, path: WorkspacePath, is_directory: bool) -> bool:
        """Whether the entry is covered."""
        above = path.parts[:-1]
        way = self._way
        if way.above != above:
            # Several walks may ask at once: each sees one whole way, the last or its own.
            way = self._way = self._led(way, above)
        return way.closed <= len(above) or _match(way.chains[-1], path.parts, is_directory)

    def _led(self, way: _Way, above: Parts) -> _Way:
        """The way to *above*. Most of it is known already: a walk asks branch by branch."""
        known = len([*takewhile(bool, map(eq, above, way.above))])
        if way.closed <= known:
            return way._replace(above=above)
        chains = [*way.chains[: known + 1]]
        for depth in range(known + 1, len(above) + 1):
            directory = above[:depth]
            if _match(chains[-1], directory, True):
                return _Way(above, depth, tuple(chains))
            chains.append(self._longer(chains[-1], directory))
        return _Way(above, sys.maxsize, tuple(chains))

    def _longer(self, chain: Chain, directory: Parts) -> Chain:
        patterns = self._own.get(directory)
        return chain if patterns is None else (chain[0], (len(directory), patterns), *chain[1:])


def _match(chain: Chain, parts: Parts, is_directory: bool) -> bool:
    for depth, patterns in chain:
        verdict = patterns.verdict(parts[depth:], is_directory)
        if verdict is not None:
            return verdict
    return False
