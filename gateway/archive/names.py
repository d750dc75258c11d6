"""Names in archives: safe to extract on any system, and no two of them the same file there."""

import re
from collections.abc import Callable, Iterable, Iterator
from unicodedata import normalize

from gateway.domain.archives import Format, Member
from gateway.domain.paths import name_to_text

# Controls, what Windows or macOS keep for themselves, and marks that turn the reading direction.
_UNSAFE = re.compile(
    '[\\\\:<>"|?*\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]'
)
_PLAIN = re.compile(r"[A-Za-z0-9_\-+@%=,#()\[\] ]*[A-Za-z0-9_\-+@%=,#()\[\]]")
_DEVICE = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(?:\..*)?", re.IGNORECASE
)
_LONGEST = 255  # bytes of one part, in most file systems
_NUMBER = 8  # bytes
_LONGEST_SUFFIX = 16  # characters: what is longer is no type of file
_SURELY_SHORT = 63  # characters, of at most four bytes


def names_for(form: Format, members: Iterable[Member]) -> Iterator[str]:
    """Yield the name of each member, with a slash behind a directory's.

    The members come in the order of their paths. In a zip each part of a name is made safe for
    Windows and macOS, and all are told apart without regard to case and composition. A tar, which
    is for Unix, loses backslashes only, and case counts. No part is longer than file systems take.
    """
    if form is Format.ZIP:
        return _named(members, _portable, _folded)
    return _named(members, lambda name: name.replace("\\", "_"), _decomposed)


def _named(
    members: Iterable[Member], safe: Callable[[str], str], folded: Callable[[str], str]
) -> Iterator[str]:
    """Names by *safe*; a number tells apart those in one directory that *folded* makes equal."""
    taken: set[str] = set()
    counts: dict[str, int] = {}
    prefixes: dict[tuple[bytes, ...], str] = {(): ""}

    def named(prefix: str, raw: bytes) -> str:
        name = unique = _fitting(safe(name_to_text(raw)), safe)
        key = prefix + folded(name)
        if key in taken:
            stem, tail = _split(name)
            # From where the last one ended: thousands of names may differ in unsafe marks only.
            alike = prefix + folded(f"{stem}~{tail}")
            while key in taken:
                counts[alike] = counts.get(alike, 1) + 1
                unique = f"{stem}~{counts[alike]}{tail}"
                key = prefix + folded(unique)
        taken.add(key)
        return prefix + unique

    for member in members:
        *_, last = parts = member.parts
        prefix = prefixes.get(parts[:-1])
        if prefix is None:  # a directory above all that was asked for
            prefix = ""
            for depth, raw in enumerate(parts[:-1], 1):
                if parts[:depth] not in prefixes:
                    prefixes[parts[:depth]] = named(prefix, raw) + "/"
                prefix = prefixes[parts[:depth]]
        name = named(prefix, last)
        if member.is_directory:
            name = prefixes[parts] = name + "/"
        yield name


def _portable(name: str) -> str:
    if _PLAIN.fullmatch(name) and len(name) > 4:
        return name
    name = _UNSAFE.sub("_", name)
    if name[-1] in ". ":
        name = name[:-1] + "_"
    return f"_{name}" if _DEVICE.fullmatch(name) else name


def _folded(name: str) -> str:
    """The same for names that differ in case or composition only (Unicode, D145)."""
    if name.isascii():
        return name.lower()
    return _decomposed(_decomposed(name).casefold())


def _decomposed(name: str) -> str:
    """The same for names that differ in composition only: bsdtar composes what it reads."""
    return normalize("NFD", name)


def _fitting(name: str, safe: Callable[[str], str]) -> str:
    """The name, or only as much of it as fits."""
    if len(name) <= _SURELY_SHORT or len(name.encode()) <= _LONGEST:
        return name
    return safe("".join(_split(name)))


def _split(name: str) -> tuple[str, str]:
    """What stands before the suffix, cut so that a number still fits behind it, and the suffix."""
    stem, dot, suffix = name.rpartition(".")
    if not stem or len(suffix) > _LONGEST_SUFFIX:
        stem, dot, suffix = name, "", ""
    room = _LONGEST - _NUMBER - len((dot + suffix).encode())
    return stem.encode()[:room].decode(errors="ignore"), dot + suffix
