"""Runs inside the virtual machine: says what lies at a path, or lists the tree below it.

Never imported: its text is sent to the executor, which starts it as `python3 -c` in the workspace.
It reads one JSON object from standard input and writes a line per entry, in the order of paths,
and then `. word`. An answer without that last line was cut short.
"""

import sys

# `python3 -c` looks for modules in its directory first: that would be the agent's own json.py.
sys.path[:] = [place for place in sys.path if place]

import binascii  # noqa: E402
import errno  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import stat  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from typing import Any, TypeAlias  # noqa: E402

_MADE_WITH_EXT4 = b"lost+found"
_LONGEST_DIRECTORY = 4095 - 256  # bytes, so that each name below it still makes a path
_LEADS_NOWHERE = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR)

Parts = tuple[bytes, ...]
Found: TypeAlias = "os.DirEntry[bytes]"


def main() -> None:
    """Answer what is asked for on standard input."""
    asked = json.load(sys.stdin)
    root = os.path.realpath(b".")
    found, top = look(root, parts_of(asked["path"]))
    if found == "directory" and asked["depth"]:
        found = list_tree(root, top, asked)
    sys.stdout.write(f". {found}\n")


def look(root: bytes, path: Parts) -> tuple[str, bytes]:
    """What lies at *path*, in a word, and where that really is."""
    if set(os.listdir(root)) <= {_MADE_WITH_EXT4}:
        return "empty", root
    where = root
    for name in path:
        if not os.path.isdir(where):
            return "blocked", where
        named = os.path.join(where, name)
        where = os.path.realpath(named)
        if not is_inside(root, where):
            return "leaves", where
        try:
            os.stat(named)
        except OSError as exc:
            return "loops" if exc.errno == errno.ELOOP else "missing", where
    return {"d": "directory", "f": "file"}.get(kind_of(os.stat(where)), "other"), where


def list_tree(root: bytes, top: bytes, asked: dict[str, Any]) -> str:
    """Write the entries below *top* until one of the bounds is reached; say whether that is all."""
    until = time.monotonic() + asked["seconds"]
    entries, room = asked["entries"], asked["bytes"]
    try:
        first = children(top)
    except OSError:
        return "unreadable"
    if top == root:
        first = [entry for entry in first if entry.name != _MADE_WITH_EXT4]
    for line in lines(root, first, asked["depth"], parts_of(asked["after"])):
        sys.stdout.write(line)
        entries -= 1
        room -= len(line)
        if entries <= 0 or room <= 0 or time.monotonic() > until:
            return "more"
    return "end"


def lines(root: bytes, first: list[Found], depth: int, after: Parts) -> Iterator[str]:
    """A line per entry behind *after*, from *first* on down; a linked directory is not entered."""
    levels = [iter(first)]
    here: list[bytes] = []
    while levels:
        entry = next(levels[-1], None)
        if entry is None:
            levels.pop()
            if here:
                here.pop()
            continue
        path = (*here, entry.name)
        is_before = path <= after
        if is_before and after[: len(path)] != path:
            continue
        told = described(root, entry)
        if told is None:
            continue
        kind, facts = told
        if kind == "d" and len(path) < depth and not entry.is_symlink():
            try:
                levels.append(iter(children(entry.path)))
                here.append(entry.name)
            except OSError:
                kind = "D"
        if not is_before:
            name = binascii.b2a_base64(b"/".join(path), newline=False).decode()
            yield f"{kind} {facts} {name}\n"


def children(directory: bytes) -> list[Found]:
    """What lies directly in *directory*, sorted; raise OSError if it cannot be read in full."""
    if len(directory) > _LONGEST_DIRECTORY:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    with os.scandir(directory) as found:
        return sorted(found, key=lambda entry: entry.name)


def described(root: bytes, entry: Found) -> tuple[str, str] | None:
    """The kind of what *entry* is, or leads to, and its size, time and mode.

    None if it went, dangles or leads out of the workspace.
    """
    try:
        found = entry.stat(follow_symlinks=False)
        if stat.S_ISLNK(found.st_mode):
            target = os.path.realpath(entry.path)
            if not is_inside(root, target):
                return None
            found = os.stat(target)
    except OSError as exc:
        return None if exc.errno in _LEADS_NOWHERE else ("u", "0 0 0")
    kind = kind_of(found)
    size = found.st_size if kind == "f" else 0
    return kind, f"{size} {found.st_mtime_ns} {stat.S_IMODE(found.st_mode):o}"


def kind_of(found: os.stat_result) -> str:
    """`d`, `f`, or `o` for what is neither a directory nor a regular file."""
    if stat.S_ISDIR(found.st_mode):
        return "d"
    return "f" if stat.S_ISREG(found.st_mode) else "o"


def is_inside(root: bytes, where: bytes) -> bool:
    """Whether the real path *where* is *root* or below it."""
    return where == root or where.startswith(root.rstrip(b"/") + b"/")


def parts_of(path: str) -> Parts:
    """The names of a path that was sent as base64, for it may hold any byte."""
    raw = binascii.a2b_base64(path)
    return tuple(raw.split(b"/")) if raw else ()


if __name__ == "__main__":
    main()
