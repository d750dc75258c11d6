"""What tests of tars need: tars with any header there can be, and the members that they give."""

import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.domain.archives import ArchiveBounds, Format, Member, Packing
from gateway.executors.engines.spooled import Room, Spool
from gateway.executors.engines.tar_stream import TarStream
from gateway.executors.engines.tar_tree import Place
from gateway.executors.streams import Members, Packed, Selection

BOUNDS = ArchiveBounds(entries=1000, bytes=10**8, file=10**7, depth=100)
END = bytes(1024)
IDLE_S = 5.0

Contents = Mapping[bytes, bytes | None]
"""By path: a file's bytes; None is a directory."""


@dataclass(frozen=True)
class Given:
    """What a tar gave: its members by path, what they hold, and how many were skipped."""

    members: Mapping[bytes, Member]
    contents: Contents
    skipped: int


def packed(
    bounds: ArchiveBounds = BOUNDS, selection: Selection | None = None, **packing: Any
) -> Packed:
    return Packed(Packing(Format.ZIP, **packing), bounds, selection)


async def _in_pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for first in range(0, len(data), size):
        yield data[first : first + size]


async def given(
    *tars: bytes | AsyncIterator[bytes],
    places: tuple[Place, ...] = (Place(),),
    piece: int = 65536,
    asked: Packed | None = None,
    root: tuple[bytes, ...] | None = None,
    room: int = 10**9,
    **how: Any,
) -> Given:
    """What *tars*, one for each place, give when they come in pieces of that size."""
    with Room.running("tars", room) as spare:
        async with Spool.opened(spare) as spool:
            stream = TarStream(asked or packed(), spool, IDLE_S, root)
            for tar, place in zip(tars, places, strict=True):
                chunks = _in_pieces(tar, piece) if isinstance(tar, bytes) else tar
                await stream.take(chunks, place, **how)
            return await held(await stream.members("tars"))


async def held(members: Members) -> Given:
    """All of it."""
    return Given(
        {b"/".join(member.parts): member for member in members.members},
        {b"/".join(parts): body async for parts, body in _contents(members)},
        members.skipped.count,
    )


async def _contents(members: Members) -> AsyncIterator[tuple[tuple[bytes, ...], bytes | None]]:
    """Each body, by both ways there are to it."""
    bodies = members.bodies
    assert bodies is not None
    for member, offset in zip(members.members, bodies.offsets, strict=True):
        if member.is_directory:
            yield member.parts, None
            continue
        held = os.pread(bodies.descriptor, member.size, offset)
        async with members.open(member) as stream:
            assert stream.entry.size == len(held) == member.size
            assert b"".join([part async for part in stream.chunks(0, member.size)]) == held
            middle = member.size // 2
            assert await stream.read(middle, member.size - middle) == held[middle:]
        yield member.parts, held


def block(name: bytes, kind: bytes = b"0", **fields: bytes) -> bytes:
    """A header with these bytes in its *fields*, and the checksum that it should have."""
    values = {
        "name": name,
        "mode": b"0000644",
        "uid": b"0000000",
        "gid": b"0000000",
        "size": b"00000000000",
        "mtime": b"00000000001",
        "checksum": b" " * 8,
        "kind": kind,
        "target": b"",
        "magic": b"ustar\x0000",
        **fields,
    }
    data = bytearray(512)
    for field, (first, end) in _FIELDS.items():
        value = values.get(field, b"")
        assert len(value) <= end - first, field
        data[first : first + len(value)] = value
    if "checksum" not in fields:
        data[148:156] = b"%06o\0 " % sum(data)
    return bytes(data)


_FIELDS = {
    "name": (0, 100),
    "mode": (100, 108),
    "uid": (108, 116),
    "gid": (116, 124),
    "size": (124, 136),
    "mtime": (136, 148),
    "checksum": (148, 156),
    "kind": (156, 157),
    "target": (157, 257),
    "magic": (257, 265),
    "prefix": (345, 500),
}


def member(name: bytes, body: bytes = b"", kind: bytes = b"0", **fields: bytes) -> bytes:
    """A header and a body, filled up."""
    fields.setdefault("size", b"%011o" % len(body))
    return block(name, kind, **fields) + body + bytes(-len(body) % 512)


def link(name: bytes, target: bytes, kind: bytes = b"2") -> bytes:
    return block(name, kind, target=target)


def pax(kind: bytes = b"x", **records: bytes) -> bytes:
    return extended(b"".join(record(key.encode(), value) for key, value in records.items()), kind)


def extended(body: bytes, kind: bytes = b"x") -> bytes:
    return member(b"PaxHeaders/x", body, kind)


def record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    while len(b"%d" % length) + len(key) + len(value) + 3 != length:
        length += 1
    return b"%d %s=%s\n" % (length, key, value)
