"""The fixed-seed workspaces that archives are made of, made once beside the rest of the corpus."""

import functools
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.benchmarks.corpus import KIB, MIB, SEED, Corpus

# Copies, as two requests for the same archive could share the work.
COPIES = 4
SOURCES = tuple(f"source-{number}" for number in range(COPIES))
MIXED = tuple(f"mixed-{number}" for number in range(COPIES))
# A quarter of a mixed one.
QUARTER = "mixed-quarter"
BIG = "big-0"
# The directories of a mixed workspace, all of much the same size.
PARTS = tuple(f"part-{number:02}" for number in range(16))
# A new number whenever the bytes change.
_VERSION = 1
_SOURCE_FILES, _SOURCE_DIRECTORIES = 20_000, 1_500
_BIG_FILES, _BIG_EACH = 16, 62_500_000  # within the gateway's default limit for one file
_RENEWED = "renewed.txt"


def make(corpus: Corpus) -> None:
    """Make the workspaces, unless complete ones are there."""
    complete = corpus.root.with_name(f"workspaces-{_VERSION}-complete")
    if complete.exists():
        return
    kinds: dict[str, Callable[[Path, Content], None]] = {
        **dict.fromkeys(SOURCES, _source),
        **dict.fromkeys(MIXED, _mixed),
        QUARTER: functools.partial(_mixed, share=4),
        BIG: _big,
    }
    for session, fill in kinds.items():
        shutil.rmtree(corpus.root / session, ignore_errors=True)
        fill(corpus.root / session, Content(random.Random(f"{SEED} {session}")))
        renew(corpus, session)
    complete.touch()


def renew(corpus: Corpus, session: str) -> None:
    """Change one small file, so that an archive that was made before cannot be sent again."""
    (corpus.root / session / _RENEWED).write_text(f"{time.time_ns():020}\n")


def files(corpus: Corpus, session: str) -> Iterator[tuple[str, Path]]:
    """Yield the name in an archive, and the place on disk, of every file of *session*."""
    root = corpus.root / session
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            yield path.relative_to(root).as_posix(), path


@functools.cache
def size(corpus: Corpus, session: str) -> int:
    """Return the bytes of all files of *session* together."""
    return sum(path.stat().st_size for _, path in files(corpus, session))


class Content:
    """Text that compresses like source code, and noise that does not compress."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        # Long enough that what comes again does so far behind the window of Deflate (32 KiB).
        self._text = "".join(_page(rng) for _ in range(600)).encode()
        self._noise = b"".join(rng.randbytes(64 * KIB) for _ in range(100))

    def text(self, size: int) -> bytes:
        """Return *size* bytes of text."""
        return self._rolled(self._text, size)

    def noise(self, size: int) -> bytes:
        """Return *size* bytes of noise."""
        return self._rolled(self._noise, size)

    def _rolled(self, tape: bytes, size: int) -> bytes:
        start = self.rng.randrange(len(tape))
        first = tape[start : start + size]
        whole, rest = divmod(size - len(first), len(tape))
        return first + tape * whole + tape[:rest]


_COMMON = ("", "", "", "", "\n", "    return result\n", "    else:\n", "}\n", "        pass\n")
_SHAPES = (
    "    {0}.{1} = {2}({3}, {0}.{4})\n",
    "    if {0} is None or {1}.{2} > {n}:\n",
    "        raise {0}Error(f'{1} has no {2}: {{{3}!r}}')\n",
    "def {0}_{1}({2}: int, {3}: str) -> {4}:\n",
    '    """Return the {0} of the {1} whose {2} is not {3}."""\n',
    "    # The {0} {1} before the {2} is {3}, or the {4} is {0}.\n",
    "    const {0} = await {1}.{2}({{ {3}: {n}, {4}: '{0}' }});\n",
    "        for {0} in sorted({1}, key=lambda {2}: {2}.{3}):\n",
    "from {0}.{1} import {2}, {3}_{4}\n",
    "  - name: {0}-{1}\n    {2}: [{3}, {4}]\n",
    "{0},{1},{n},{n}.{n},{2}\n",
)


@functools.cache
def _vocabulary() -> tuple[tuple[str, ...], tuple[float, ...]]:
    rng = random.Random(SEED)
    syllables = [c + v for c in "bcdfghklmnprstvw" for v in "aeiou"]
    words = tuple("".join(rng.choices(syllables, k=rng.choice((1, 2, 2, 3)))) for _ in range(6000))
    # Few words are frequent and most are rare, as in any text.
    weights = tuple(1 / (rank + 10) for rank in range(len(words)))
    total, cumulated = 0.0, []
    for weight in weights:
        total += weight
        cumulated.append(total)
    return words, tuple(cumulated)


def _page(rng: random.Random) -> str:
    """Return some 5 KB of lines about the same few things, as files are."""
    words, cumulated = _vocabulary()
    topics = rng.choices(words, cum_weights=cumulated, k=24)
    lines = []
    for _ in range(100):
        shape, things = rng.choice(_SHAPES), rng.choices(topics, k=5)
        lines += [shape.format(*things, n=rng.randrange(1000)), rng.choice(_COMMON)]
    return "".join(lines)


def _sizes(rng: random.Random, count: int, total: int, spread: float, largest: int) -> list[int]:
    """Return *count* sizes, *total* together: most small, few large, none over *largest*."""
    drawn = [rng.lognormvariate(0, spread) for _ in range(count)]
    factor = total / sum(drawn)
    return [min(largest, max(1, round(each * factor))) for each in drawn]


def _source(session: Path, content: Content) -> None:
    directories, rng = [session], content.rng
    for number in range(_SOURCE_DIRECTORIES):
        # Any earlier directory may be the parent, so some branches are deep and most are not.
        made = rng.choice(directories[: 1 + number // 4]) / f"module_{number:04}"
        made.mkdir(parents=True)
        directories.append(made)
    for number, size in enumerate(_sizes(rng, _SOURCE_FILES, 100_000_000, 1.2, MIB)):
        suffix = rng.choice((".py", ".ts", ".md", ".json", ".yaml", ".c"))
        place = directories[1 + number % _SOURCE_DIRECTORIES]
        (place / f"file_{number:05}{suffix}").write_bytes(content.text(size))


def _mixed(session: Path, content: Content, share: int = 1) -> None:
    for part in PARTS:
        (session / part).mkdir(parents=True)
    makers = {"report.csv": content.text, "image.png": content.noise}
    parts, kinds = dict.fromkeys(PARTS, 0), dict.fromkeys(makers, 0)
    sizes = _sizes(content.rng, 2_000 // share, 600_000_000 // share, 1.8, 32 * MIB)
    # Largest first, each to where there is least: so all parts are alike, and half is noise.
    for number, size in enumerate(sorted(sizes, reverse=True)):
        part, kind = min(parts, key=parts.__getitem__), min(kinds, key=kinds.__getitem__)
        (session / part / f"{number:04}-{kind}").write_bytes(makers[kind](size))
        parts[part] += size
        kinds[kind] += size


def _big(session: Path, content: Content) -> None:
    session.mkdir()
    for number in range(_BIG_FILES):
        data = content.noise(_BIG_EACH) if number % 2 else content.text(_BIG_EACH)
        (session / f"dump-{number:02}.bin").write_bytes(data)
