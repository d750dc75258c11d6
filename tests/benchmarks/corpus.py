"""The fixed-seed workspaces that every peer serves, made once under `.bench/`."""

import os
import random
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict

SEED = 20_241
KIB, MIB = 1 << 10, 1 << 20
DIRECTORIES, FILES_EACH = 200, 500
# A new number whenever the bytes change: old figures must not be mixed with a new corpus.
VERSION = 1
_EPOCH = 1_700_000_000


class Entry(TypedDict):
    """One element of `files` as the contract spells it."""

    name: str
    path: str
    size: int
    is_dir: bool
    modified_at: str


@dataclass(frozen=True, slots=True)
class Corpus:
    """Where the sessions lie: `s20`, `files` (1k.bin, 1m.bin, 100m.bin) and `tree`."""

    root: Path

    def file(self, name: str) -> Path:
        """Return the file behind `/api/v1/sessions/files/files/<name>`."""
        return self.root / "files" / name

    def listing(self, session: str, *, recursive: bool = False) -> list[Entry]:
        """Return what a right answer lists, found without any code of the gateway."""
        entries: list[Entry] = []
        _walk(self.root / session, "", entries, recursive=recursive)
        return entries


def make(home: Path) -> Corpus:
    """Return the corpus below *home*, built anew unless a complete one is there."""
    place = home / f"corpus-{VERSION}"
    complete = place / "complete"
    if not complete.exists():
        shutil.rmtree(place, ignore_errors=True)
        root = place / "sessions"
        rng = random.Random(SEED)
        _twenty(root / "s20", rng)
        _files(root / "files", rng)
        _tree(root / "tree", rng)
        complete.touch()
    return Corpus(place / "sessions")


def _twenty(session: Path, rng: random.Random) -> None:
    for number in range(3):
        (session / f"folder-{number}").mkdir(parents=True)
    for number in range(17):
        suffix = ("csv", "py", "md", "png")[number % 4]
        (session / f"result-{number:02}.{suffix}").write_bytes(rng.randbytes(rng.randrange(4000)))
    _fix_times(session)


def _files(session: Path, rng: random.Random) -> None:
    session.mkdir(parents=True)
    (session / "1k.bin").write_bytes(rng.randbytes(KIB))
    (session / "1m.bin").write_bytes(rng.randbytes(MIB))
    with (session / "100m.bin").open("wb") as big:
        for _ in range(100):
            big.write(rng.randbytes(MIB))
    _fix_times(session)


def _tree(session: Path, rng: random.Random) -> None:
    for number in range(DIRECTORIES):
        directory = session / f"module-{number:03}"
        directory.mkdir(parents=True)
        for file in range(FILES_EACH):
            (directory / f"part-{file:03}.txt").write_bytes(rng.randbytes(rng.randrange(200)))
    _fix_times(session)


def _fix_times(session: Path) -> None:
    count = 0
    for folder, _, files in os.walk(session, topdown=False):
        for path in [*(os.path.join(folder, file) for file in files), folder]:
            os.utime(path, (_EPOCH + count, _EPOCH + count))
            count += 1


def _walk(folder: Path, prefix: str, entries: list[Entry], *, recursive: bool) -> None:
    for found in sorted(os.scandir(folder), key=lambda found: os.fsencode(found.name)):
        facts, is_dir = found.stat(), found.is_dir()
        path = f"{prefix}/{found.name}"
        modified = datetime.fromtimestamp(int(facts.st_mtime), UTC)
        entries.append(
            Entry(
                name=found.name,
                path=path,
                size=0 if is_dir else facts.st_size,
                is_dir=is_dir,
                modified_at=modified.strftime("%Y-%m-%dT%H:%M:%SZ"),
            )
        )
        if is_dir and recursive:
            _walk(folder / found.name, path, entries, recursive=True)
