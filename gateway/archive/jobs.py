"""The work of an archive in jobs, each of which reads and packs some members or a piece of one.

A job and its result are plain values, so that another process can do it. It imports nothing that
is slow to start.
"""

import errno
import os
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple, cast

from gateway.archive import compress, tar
from gateway.archive import zip as records
from gateway.archive.compress import Buffers
from gateway.domain.archives import Member
from gateway.domain.errors import GatewayError
from gateway.system.resolver import Resolver, Wish, choose, open_file
from gateway.system.states import state_of

MOST_BYTES = 1 << 20
"""Of a job: its members together, or its piece of a larger one."""

MOST_MEMBERS = 512
_SMALL = 32 << 10  # bytes: trying costs no more than probing
_MOST_BUFFERS = 1024  # of one writev (IOV_MAX)
_INODE = (1 << 64) - 1


class Changed(Exception):
    """A member is not what it was when the archive was planned."""


class Part(NamedTuple):
    """*length* bytes from *first* of a member that is called *name* in the archive.

    *where* is its path, or the offset of its first byte in the one file that has all of them.
    """

    where: tuple[bytes, ...] | int
    first: int
    length: int
    name: str
    member: Member

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the member."""
        return self.length == self.member.size

    @property
    def is_last(self) -> bool:
        """Whether the member ends with it."""
        return self.first + self.length == self.member.size


class Step(NamedTuple):
    """What a job has to do: the members from *begin* to *end*, or a piece of *length* of one."""

    begin: int
    end: int
    first: int = 0
    length: int = -1

    @property
    def is_piece(self) -> bool:
        """Whether it is of one member a piece."""
        return self.length >= 0


class Job(NamedTuple):
    """Parts to pack: any number of whole members, or one piece of one.

    *form* is a format's name; what is *stored* is not compressed. *resolver*, its name and sandbox
    prefix, finds the members below a directory; None: they are all in one file.
    """

    form: str
    stored: bool
    resolver: tuple[str, str | None] | None
    parts: list[tuple[Any, ...]]


class Packet(NamedTuple):
    """What a job made: *length* bytes, and of which data.

    *bodies* are of a zip's members: method, CRC, and length with and without compression. For a
    tar there is one, of all that was compressed together.
    """

    length: int
    bodies: list[tuple[int, ...]]


def run(job: Job, descriptor: int, memory: int) -> Packet:
    """Do *job*, and write what it makes to the file *memory*, from its beginning.

    Raise `Changed`, or OSError if that file cannot take it.
    """
    parts = [
        Part(where, first, length, name, Member(*member))
        for where, first, length, name, member in job.parts
    ]
    read = _reader(job, descriptor)
    pack = _zipped if job.form == "zip" else _tarred
    output, bodies = pack(job, parts, read)
    return Packet(_write(memory, output), [tuple(body) for body in bodies])


_Read = Callable[[Part], bytes]
_Packed = tuple[list[bytes | memoryview], list[records.Body]]


def _zipped(job: Job, parts: list[Part], read: _Read) -> _Packed:
    output: list[bytes | memoryview] = []
    bodies: list[records.Body] = []
    for part in parts:
        data = read(part)
        crc = compress.crc32(data)
        if not part.is_whole:
            pieces = compress.deflate_piece(data, last=part.is_last, stored=job.stored)
            output += pieces
            bodies.append(records.Body(records.DEFLATED, crc, sum(map(len, pieces)), len(data)))
            continue
        method, packed = (records.STORED, data) if job.stored else _smaller(data)
        body = records.Body(method, crc, len(packed), len(data))
        output += (records.local_header(part.name.encode(), part.member, body), packed)
        bodies.append(body)
    return output, bodies


def _smaller(data: bytes) -> tuple[int, bytes]:
    if len(data) <= _SMALL or compress.compresses(data):
        packed = compress.deflated(data)
        if len(packed) < len(data):
            return records.DEFLATED, packed
    return records.STORED, data


def _tarred(job: Job, parts: list[Part], read: _Read) -> _Packed:
    output: list[bytes] = []
    for part in parts:
        if part.first == 0:
            output.append(tar.header(part.name, part.member))
        output.append(read(part))
        if part.is_last:
            output.append(bytes(tar.padding(part.member.size)))
    if job.form == "tar":
        return [*output], []
    data = b"".join(output)
    pieces: Buffers = (
        compress.deflate_piece(data, last=False, stored=False)
        if job.form == "tar.gz"
        else [compress.zstd_frame(data)]
    )
    length = sum(map(len, pieces))
    return [*pieces], [records.Body(records.DEFLATED, compress.crc32(data), length, len(data))]


def _reader(job: Job, descriptor: int) -> _Read:
    resolver = None if job.resolver is None else _resolver(*job.resolver)

    def read(part: Part) -> bytes:
        if not part.length:
            return b""
        if resolver is None:
            assert isinstance(part.where, int)
            return _exactly(descriptor, part.where + part.first, part.length)
        assert isinstance(part.where, tuple)
        fd, _ = open_file(resolver, descriptor, part.where)
        try:
            data = _exactly(fd, part.first, part.length)
            if not _is_as_planned(os.fstat(fd), part.member):
                raise Changed
            return data
        finally:
            os.close(fd)

    def checked(part: Part) -> bytes:
        try:
            return read(part)
        except (Changed, GatewayError, OSError) as exc:
            raise Changed(part.name) from exc

    return checked


def _is_as_planned(found: os.stat_result, member: Member) -> bool:
    """Whether it is the same file, with the same content or with something appended to it."""
    version = member.version
    if not isinstance(version, int) or version == state_of(found):
        return True
    # A log that goes on growing is no reason to break: what was there is there.
    return found.st_ino == version & _INODE and found.st_size > member.size


_resolvers: dict[tuple[str, str | None], Resolver] = {}


def _resolver(name: str, prefix: str | None) -> Resolver:
    known = _resolvers.get((name, prefix))
    if known is None:
        wish = cast(Wish, name)  # the name of a resolver is a wish for it
        known = _resolvers[name, prefix] = choose(wish, prefix)
    return known


def _exactly(descriptor: int, first: int, count: int) -> bytes:
    data = os.pread(descriptor, count, first)
    while len(data) < count:
        more = os.pread(descriptor, count - len(data), first + len(data))
        if not more:
            raise Changed
        data += more
    return data


def _write(descriptor: int, output: list[bytes | memoryview]) -> int:
    total = 0
    buffers = iter(output)
    while group := list(islice(buffers, _MOST_BUFFERS)):
        length = sum(map(len, group))
        if os.pwritev(descriptor, group, total) < length:
            raise OSError(errno.ENOSPC, "a file in memory is full")
        total += length
    return total


def cut(count: int) -> Iterator[tuple[int, int]]:
    """The pieces of a member of *count* bytes that is too large for one job: first, and length."""
    for first in range(0, count, MOST_BYTES):
        yield first, min(MOST_BYTES, count - first)
