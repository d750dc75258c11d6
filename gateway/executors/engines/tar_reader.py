"""Takes a tar apart while it comes: headers go to a tree, wanted bodies to the caller."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from gateway.domain.errors import Unsupported
from gateway.executors.engines.tar_headers import (
    BLOCK,
    EXTENDED,
    GNU_NAMES,
    PAX_GLOBAL,
    Header,
    fault,
    gnu_name,
    header,
    kind_of,
    records,
)
from gateway.executors.engines.tar_links import Parts
from gateway.executors.engines.tar_tree import Tree

_MOST_EXTENDED: Final = 1024 * 1024  # bytes of one extended header
_MOST_ZEROS: Final = 4096  # blocks at the end, where a tar is filled up to whole records
_NOT_FOR_ALL: Final = {b"path", b"linkpath", b"size"}
_HEEDED: Final = _NOT_FOR_ALL | {b"mtime"}
_SPARSE: Final = b"GNU.sparse."
_VERSION: Final = 32  # hexadecimal digits of SHA-256, which takes half the time of BLAKE2


class TarReader:
    """Reads one tar into *tree*; *stored* bytes of bodies have been kept before it."""

    def __init__(self, tree: Tree, stored: int) -> None:
        self.stored = stored
        self.last: Header | None = None
        self._tree = tree
        self._block = b""  # the beginning of a header
        self._extended: dict[bytes, bytes] = {}
        self._for_all: dict[bytes, bytes] = {}
        self._zeros = 0
        # Of the member whose body comes:
        self._header: Header | None = None
        self._wanted: Parts | None = None
        self._left = 0
        self._padding = 0
        self._offset = 0
        self._digest = sha256()
        self._body = b""  # of an extended header

    def feed(self, data: bytes) -> Sequence[memoryview]:
        """Take the next piece; returns those parts of it that are bodies of wanted files, in order.

        Raises what `Tree.admit` raises, and `ProtocolFault` for what is no tar.
        """
        kept: list[memoryview] = []
        view = memoryview(data)
        while view:
            if self._left:
                piece, view = view[: self._left], view[self._left :]
                self._left -= len(piece)
                self._take(piece, kept)
            elif self._padding:
                passed = min(self._padding, len(view))
                self._padding -= passed
                view = view[passed:]
            else:
                missing = BLOCK - len(self._block)
                self._block += view[:missing]
                view = view[missing:]
                if len(self._block) == BLOCK:
                    block, self._block = self._block, b""
                    self._begin(block)
        self._tree.pass_by(len(data) - sum(map(len, kept)))
        return kept

    def end(self) -> None:
        """Raise `ProtocolFault` unless the tar has come to its end: two blocks of zeros."""
        if self._zeros < 2 or any(self._block):
            raise fault("no end")

    def _begin(self, block: bytes) -> None:
        if not any(block):
            self._zeros += 1
            is_announced = self._header is not None and self._header.kind in EXTENDED
            if is_announced or self._zeros > _MOST_ZEROS:
                raise fault("no member where one should be")
            return
        if self._zeros:
            raise fault("more behind the end")
        is_extended = kind_of(block) in EXTENDED
        found = header(block, {} if is_extended else self._told())
        self._header, self._wanted, self._body = found, None, b""
        self._left, self._padding = found.size, -found.size % BLOCK
        if is_extended:
            if found.size > _MOST_EXTENDED:
                raise fault("an extended header without end")
        else:
            self._extended = {}
            self._wanted = self._tree.admit(found)
            self._offset, self._digest = self.stored, sha256()
            self.last = found
        if not self._left:
            self._finish(found)

    def _take(self, piece: memoryview, kept: list[memoryview]) -> None:
        found = self._header
        assert found is not None
        if self._wanted is not None:
            kept.append(piece)
            self._digest.update(piece)
            self.stored += len(piece)
        elif found.kind in EXTENDED:
            self._body += piece
        if not self._left:
            self._finish(found)

    def _finish(self, found: Header) -> None:
        if self._wanted is not None:
            version = self._digest.hexdigest()[:_VERSION]
            self._tree.keep(self._wanted, found, self._offset, version)
        elif found.kind in EXTENDED:
            self._extend(found.kind)

    def _extend(self, kind: bytes) -> None:
        if kind in GNU_NAMES:
            more = {GNU_NAMES[kind]: gnu_name(self._body)}
        else:
            more = dict(records(self._body))
        if any(name.startswith(_SPARSE) for name in more):
            raise Unsupported("the executor's tar is of a form that is not read")
        # There can be any number of others.
        more = {name: value for name, value in more.items() if name in _HEEDED}
        if kind == PAX_GLOBAL:
            if not _NOT_FOR_ALL.isdisjoint(more):
                raise fault("a name or a size for all")
            self._for_all |= more
        elif _NOT_FOR_ALL.isdisjoint(more.keys() & self._extended.keys()):
            self._extended |= more
        else:
            raise fault("two names or sizes for one")

    def _told(self) -> dict[bytes, bytes]:
        """What extended headers say of the next member; an empty value takes one back."""
        return {name: value for name, value in (self._for_all | self._extended).items() if value}
