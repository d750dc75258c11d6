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


def names_for(form: Format, members: Iterable[Member]) -> Iterator[str]:
    """Yield the name of each member, with a slash behind a directory's.

    The members come in the order of their paths. In a zip each part of a name is made safe for
    Windows and macOS, and all are told apart without regard to case and composition; a tar, which
    is for Unix, loses backslashes only.
    """
    if form is Format.ZIP:
        return _named(members, _portable, lambda name: normalize("NFC", name.casefold()))
    return _named(members, lambda name: name.replace("\\", "_"), lambda name: name)


def _named(
    members: Iterable[Member], safe: Callable[[str], str], folded: Callable[[str], str]
) -> Iterator[str]:
    """Names by *safe*; a number tells apart those that *folded* makes equal."""
    taken: set[str] = set()
    prefixes: dict[tuple[bytes, ...], str] = {(): ""}

    def named(parts: tuple[bytes, ...]) -> str:
        above = parts[:-1]
        prefix = prefixes.get(above)
        if prefix is None:
            prefix = prefixes[above] = named(above) + "/"
        name = unique = prefix + safe(name_to_text(parts[-1]))
        count = 1
        while (key := folded(unique)) in taken:
            count += 1
            stem, dot, suffix = name.rpartition(".")
            is_suffix = dot and "/" not in suffix and stem and not stem.endswith("/")
            unique = f"{stem}~{count}.{suffix}" if is_suffix else f"{name}~{count}"
        taken.add(key)
        return unique

    for member in members:
        if not member.is_directory:
            yield named(member.parts)
            continue
        prefix = prefixes.get(member.parts)
        if prefix is None:
            prefix = prefixes[member.parts] = named(member.parts) + "/"
        yield prefix


def _portable(name: str) -> str:
    if _PLAIN.fullmatch(name) and len(name) > 4:
        return name
    name = _UNSAFE.sub("_", name)
    if name[-1] in ". ":
        name = name[:-1] + "_"
    return f"_{name}" if _DEVICE.fullmatch(name) else name
