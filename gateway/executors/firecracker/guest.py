"""Runs inside the virtual machine: tells what lies at a path, or below it, or packs that.

Never imported: its text is sent to the executor, which starts it as `python3 -c` in the workspace.
It reads one JSON object from standard input. For a listing it writes a line per entry, in the order
of paths, and then `. word`; an answer without that last line was cut short. What it packs is in
base64: a line with a word, and if that is `tar` the tar behind it.
"""

import sys

# `python3 -c` looks for modules in its directory first: that would be the agent's own json.py.
sys.path[:] = [place for place in sys.path if place]

import binascii  # noqa: E402
import errno  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import stat  # noqa: E402
import tarfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from typing import Any, NamedTuple, TypeAlias  # noqa: E402

_MADE_WITH_EXT4 = b"lost+found"
_LONGEST_DIRECTORY = 4095 - 256  # bytes, so that each name below it still makes a path
_ROOM_FOR_HEADERS = 2048  # bytes; longer names than fit make a header of their own longer
_LEADS_NOWHERE = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR)

Parts = tuple[bytes, ...]
Found: TypeAlias = "os.DirEntry[bytes]"


def main() -> None:
    """Answer what is asked for on standard input."""
    asked = json.load(sys.stdin)
    root = os.path.realpath(b".")
    found, top = look(root, parts_of(asked["path"]))
    if "pack" in asked:
        pack(root, top, asked, found)
        return
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
        tree = walk(root, top, asked["depth"], parts_of(asked["after"]), frozenset())
        for path, one in tree:
            if one.kind == "x":
                continue
            name = binascii.b2a_base64(b"/".join(path), newline=False).decode()
            line = f"{one.kind} {one.size} {one.mtime_ns} {one.mode:o} {name}\n"
            sys.stdout.write(line)
            entries -= 1
            room -= len(line)
            if entries <= 0 or room <= 0 or time.monotonic() > until:
                return "more"
    except OSError:
        return "unreadable"
    return "end"


def pack(root: bytes, top: bytes, asked: dict[str, Any], found: str) -> None:
    """Write the tar of all below *top*, unless it may have more than *asked["pack"]* bytes."""
    write, flush = encoder()
    if found == "directory":
        try:
            without = frozenset(parts_of(path) for path in asked["without"])
            tree = list(walk(root, top, asked["depth"], (), without))
        except OSError:
            found = "unreadable"
        else:
            whole = sum(one.size + _ROOM_FOR_HEADERS for _, one in tree)
            found = "tar" if whole <= asked["pack"] else "large"
    write(found.encode() + b"\n")
    if found == "tar":
        for path, one in tree:
            write(member(path, one))
        write(bytes(2 * tarfile.BLOCKSIZE))
    flush()


def encoder() -> "tuple[Callable[[bytes], None], Callable[[], None]]":
    """What writes bytes as one text of base64, and what writes the rest of it."""
    held = b""

    def write(data: bytes) -> None:
        nonlocal held
        held += data
        whole = len(held) - len(held) % 3
        sys.stdout.write(binascii.b2a_base64(held[:whole], newline=False).decode())
        held = held[whole:]

    def flush() -> None:
        sys.stdout.write(binascii.b2a_base64(held, newline=False).decode())

    return write, flush


def member(path: Parts, one: "One") -> bytes:
    """A member of a tar; of what cannot be packed, one that is a FIFO."""
    info = tarfile.TarInfo(b"/".join(path).decode("utf-8", "surrogateescape"))
    info.type, body = tarfile.FIFOTYPE, b""
    if one.kind == "d" and not one.is_link:
        info.type = tarfile.DIRTYPE
    elif one.kind == "f":
        try:
            body = content(one.place)
            info.type = tarfile.REGTYPE
        except OSError:
            pass  # it went, or cannot be read
    info.size, info.mode = len(body), one.mode
    seconds, ns = divmod(abs(one.mtime_ns), 10**9)
    info.pax_headers = {"mtime": f"{'-' * (one.mtime_ns < 0)}{seconds}.{ns:09}"}
    head = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    return head + body + bytes(-len(body) % tarfile.BLOCKSIZE)


def content(place: bytes) -> bytes:
    """What is in a regular file; raise OSError if it is none any more."""
    with open(os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return file.read(found.st_size)


class One(NamedTuple):
    """What an entry is, or leads to, and where that is.

    Kind `D` is a directory that is not entered, `x` a link that dangles or leaves, `u` unknown.
    """

    kind: str
    size: int
    mtime_ns: int
    mode: int
    is_link: bool
    place: bytes


def walk(
    root: bytes, top: bytes, depth: int, after: Parts, without: "frozenset[Parts]"
) -> "Iterator[tuple[Parts, One]]":
    """What lies behind *after* in *top*, but not in *without*; a linked directory is not entered.

    Raises OSError if *top* cannot be read.
    """
    first = children(top)
    if top == root:
        first = [entry for entry in first if entry.name != _MADE_WITH_EXT4]
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
        if path in without or (is_before and after[: len(path)] != path):
            continue
        one = described(root, entry)
        if one is None:
            continue
        if one.kind == "d" and len(path) < depth and not one.is_link:
            try:
                levels.append(iter(children(entry.path)))
                here.append(entry.name)
            except OSError:
                one = one._replace(kind="D")
        if not is_before:
            yield path, one


def children(directory: bytes) -> list[Found]:
    """What lies directly in *directory*, sorted; raise OSError if it cannot be read in full."""
    if len(directory) > _LONGEST_DIRECTORY:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    with os.scandir(directory) as found:
        return sorted(found, key=lambda entry: entry.name)


def described(root: bytes, entry: Found) -> "One | None":
    """What *entry* is, or leads to; None if it went."""
    place, is_link = entry.path, False
    try:
        found = entry.stat(follow_symlinks=False)
        is_link = stat.S_ISLNK(found.st_mode)
        if is_link:
            place = os.path.realpath(entry.path)
            if not is_inside(root, place):
                return One("x", 0, 0, 0, is_link, place)
            found = os.stat(place)
    except OSError as exc:
        if exc.errno not in _LEADS_NOWHERE:
            return One("u", 0, 0, 0, is_link, place)
        return One("x", 0, 0, 0, is_link, place) if is_link else None
    kind = kind_of(found)
    size = found.st_size if kind == "f" else 0
    return One(kind, size, found.st_mtime_ns, stat.S_IMODE(found.st_mode), is_link, place)


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
