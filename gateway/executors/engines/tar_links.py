"""Follows symbolic links among what tars hold."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from gateway.domain.paths import LONGEST_PATH

_MOST_LINKS: Final = 40  # as many as Linux follows
_MOST_STEPS: Final = 2_000_000  # for all links together: 1 s

Parts = tuple[bytes, ...]


class Found(NamedTuple):
    """What lies at a path: a directory, a file whose body is at *offset*, or a link with a text.

    What *is_member* is not goes into no archive, for nobody wants it, but something below it.
    """

    is_directory: bool
    size: int
    mtime_ns: int | None
    mode: int
    offset: int = 0
    digest: str | None = None
    text: bytes | None = None
    is_member: bool = True


class Links:
    """The links in *found*.

    *root* is where the workspace is in its sandbox: an absolute link into it stays inside.
    """

    def __init__(self, found: Mapping[Parts, Found], root: Parts | None) -> None:
        self._found = found
        self._root = root
        self._steps = _MOST_STEPS

    def file(self, here: Parts, text: bytes) -> Found | None:
        """The file that a link in *here* leads to, None if to anything else, or nowhere."""
        links = 1
        way, pending = self._turned(here, text)
        while pending:
            self._steps -= 1
            name = pending.pop()
            if name == b"..":
                if not way:
                    return None
                way = way[:-1]
                continue
            found = self._found.get((*way, name))
            if found is None or self._steps < 0:
                return None
            if found.text is not None:
                links += 1
                way, more = self._turned(way, found.text)
                pending += more
                if not more or links > _MOST_LINKS or len(pending) > LONGEST_PATH:
                    return None
            elif found.is_directory:
                way = (*way, name)
            else:
                return None if pending else found
        return None

    def _turned(self, way: Parts, text: bytes) -> tuple[Parts, list[bytes]]:
        """From where a link's text is followed, and its names, the last first; none if it leaves.

        Nor of a text that ends with a slash or a dot: it can only lead to a directory.
        """
        if text.endswith((b"/", b"/.")):
            return way, []
        names = [name for name in text.split(b"/") if name not in (b"", b".")]
        if text.startswith(b"/"):
            root = self._root
            if root is None or tuple(names[: len(root)]) != root:
                return way, []
            way, names = (), names[len(root) :]
        return way, names[::-1]
