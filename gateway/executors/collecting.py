"""Makes the members of an archive of what walks find, up to the first that is out of bounds."""

import re
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from stat import S_IMODE, S_ISDIR, S_ISREG

from gateway.domain.archives import ArchiveBounds, Member, Skipped
from gateway.domain.errors import ProtocolFault, StreamBroken, TooLarge, Unsupported
from gateway.domain.model import Entry, Row, rows_of
from gateway.domain.paths import WorkspacePath
from gateway.domain.sizes import size_text

_SPECIAL = re.compile(r"[\\*?[]")

Walking = AbstractAsyncContextManager[AsyncIterable[Sequence[Entry]]]


class Collection:
    """*members* in the order in which they are added, and which entries were *skipped*.

    Adding raises `TooLarge` at the first that is out of *bounds*; the message says which that is,
    and how to leave it out.
    """

    def __init__(self, bounds: ArchiveBounds) -> None:
        self.members: list[Member] = []
        self.skipped = Skipped()
        self._bounds = bounds
        self._bytes = 0
        self._floor = 0
        self._last: tuple[bytes, ...] = ()

    def begin(self, path: WorkspacePath) -> None:
        """Take in the directory *path*; what is added next lies below it."""
        self._floor = len(path.parts) + self._bounds.depth
        if path.parts:  # of which a walk tells nothing
            self._keep(Member(path.parts, True, 0, None, 0o755))

    def add(self, rows: Iterable[Row]) -> None:
        """Take in what a walk found.

        Raises `Unsupported` if it does not tell how large a file is, and `ProtocolFault` for one
        that is out of order.
        """
        most = self._bounds.file
        for above, name, mode, size, mtime_ns, is_link, problem, version in rows:
            if problem is not None:
                self.skipped.add((*above, name))
            elif S_ISREG(mode):
                parts = (*above, name)
                if size is None:
                    raise Unsupported("the executor does not tell how large files are")
                if size > most:
                    raise too_large(f"file exceeds maximum size limit ({size_text(most)})", parts)
                self._bytes += size
                self._keep(Member(parts, False, size, mtime_ns, S_IMODE(mode), version))
            elif S_ISDIR(mode) and not is_link:
                self._keep(Member((*above, name), True, 0, mtime_ns, S_IMODE(mode)))
            else:
                self.skipped.add((*above, name))

    def _keep(self, member: Member) -> None:
        bounds, parts = self._bounds, member.parts
        if parts <= self._last:
            raise ProtocolFault("the executor lists its entries out of order")
        self._last = parts
        if member.is_directory and len(parts) >= self._floor:
            raise too_large(f"archive exceeds maximum depth ({bounds.depth} levels)", parts)
        if self._bytes > bounds.bytes:
            raise too_large(f"archive exceeds maximum size ({size_text(bounds.bytes)})", parts)
        if len(self.members) == bounds.entries:
            raise too_large(f"archive exceeds maximum number of entries ({bounds.entries})", parts)
        self.members.append(member)


async def collected(
    paths: Iterable[WorkspacePath],
    bounds: ArchiveBounds,
    walk: Callable[[WorkspacePath], Walking],
) -> Collection:
    """All that lies in the directories *paths*, which are apart; *walk* enters one of them.

    Raises what that does, and what `Collection.add` does.
    """
    collection = Collection(bounds)
    try:
        for path in paths:
            async with walk(path) as batches:
                collection.begin(path)
                async for batch in batches:
                    collection.add(rows_of(batch))
    except StreamBroken as exc:  # nothing has been answered yet: another executor may be asked
        raise ProtocolFault(str(exc)) from exc
    return collection


def too_large(limit: str, parts: tuple[bytes, ...]) -> TooLarge:
    """The verdict on an archive that is beyond *limit* at *parts*, and how to leave that out."""
    path = WorkspacePath(parts).relative
    return TooLarge(f"{limit} at {path!r}; to leave that out: exclude={_pattern(path)}")


def _pattern(path: str) -> str:
    """A gitignore pattern for *path* that can be shown: what cannot stands as `?`."""
    text = _SPECIAL.sub(r"\\\g<0>", path)
    text = "".join(character if character.isprintable() else "?" for character in text)
    return "/" + (text[:-1] + "\\ " if text.endswith(" ") else text)
