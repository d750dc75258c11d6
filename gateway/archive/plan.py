"""What an archive will be: its members under their names, how long it is, and its validator."""

import marshal
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Any

from gateway.archive import tar
from gateway.archive.compress import stored_size
from gateway.archive.jobs import MOST_BYTES, cut
from gateway.archive.manifest import manifest_of, member_of
from gateway.archive.names import names_for
from gateway.archive.zip import (
    STORED,
    Body,
    central_header,
    descriptor,
    end_records,
    local_size,
    streamed_header,
)
from gateway.domain.archives import Format, Member, Packing, Skipped
from gateway.domain.errors import TooLarge

_WRITER = b"2"  # a change of the bytes that are made of equal members changes this
_RACY_NS = 3_000_000_000  # many backends tell whole seconds only
_AT_ONCE = 256  # members
_LONGEST_NAME = 0xFFFF  # bytes, in a zip
_BESIDE_DATA_IN_ZIP = 256  # bytes of a member's records without its name, at most
_BESIDE_DATA_IN_TAR = 5 * tar.BLOCK  # two headers, PAX records, two paddings


@dataclass(frozen=True, slots=True)
class Plan:
    """The members of an archive, all of them known.

    *key* is its validator: equal keys mean equal bytes. *size* is its length if that does not
    depend on how well members compress; *most* is a bound for it. The *manifest*, if there is one,
    is all of the last member.
    """

    key: str
    format: Format
    stored: bool
    members: Sequence[Member]
    names: Sequence[str]
    uncompressed: int
    size: int | None
    most: int
    manifest: bytes | None


def planned(
    origin: str, packing: Packing, members: Sequence[Member], skipped: Skipped | None = None
) -> Plan:
    """Plan an archive of what *origin*, a workspace at an executor, has; takes a while.

    A manifest tells what was *skipped*; None: there is to be none. Raises `TooLarge` for a path
    that no archive can hold.
    """
    form = packing.format
    manifest = None if skipped is None else manifest_of(len(members), skipped)
    if manifest is None:
        names = [*names_for(form, members)]
    else:
        last = member_of(manifest)
        # The first to be named, so that nothing in the workspace passes for it.
        name, *names = names_for(form, [last, *members])
        members, names = [*members, last], [*names, name]
    lengths = [len(name.encode()) for name in names]
    if max(lengths, default=0) > _LONGEST_NAME:
        raise TooLarge(f"a path is longer than {_LONGEST_NAME} bytes")
    is_stored = form is Format.TAR or (form is Format.ZIP and packing.stored)
    uncompressed = sum(member.size for member in members)
    beside = _BESIDE_DATA_IN_ZIP if form is Format.ZIP else _BESIDE_DATA_IN_TAR
    records = 2 * sum(lengths) + beside * (len(members) + 1)
    size = _stored_size(form, members, names) if is_stored else None
    return Plan(
        key=_fingerprint(origin, packing, members),
        format=form,
        stored=is_stored,
        members=members,
        names=names,
        uncompressed=uncompressed,
        size=size,
        most=size or uncompressed + uncompressed // 128 + records,
        manifest=manifest,
    )


def _fingerprint(origin: str, packing: Packing, members: Sequence[Member]) -> str:
    digest = blake2b(digest_size=16)
    if any(map(_is_racy, members)):
        digest.update(os.urandom(16))
    digest.update(_dumped((_WRITER, origin, packing.format.value, packing.stored)))
    values = map(tuple, members)
    while some := [*islice(values, _AT_ONCE)]:
        digest.update(_dumped(some))
    return digest.hexdigest()


def _is_racy(member: Member) -> bool:
    """Whether the next write may leave no trace: there is nothing but a time, and it is now."""
    if member.version is not None or member.is_directory:
        return False
    return member.mtime_ns is None or member.mtime_ns > time.time_ns() - _RACY_NS


def _dumped(value: Any) -> bytes:
    return marshal.dumps(value, 0)  # the later versions write equal values in different ways


def _stored_size(form: Format, members: Sequence[Member], names: Sequence[str]) -> int:
    """How long an archive is in which nothing is compressed."""
    if form is not Format.ZIP:
        headers = map(tar.header, names, members)
        paddings = (tar.padding(member.size) for member in members)
        sizes = (member.size for member in members)
        return sum(map(len, headers)) + sum(paddings) + sum(sizes) + len(tar.END)
    offset = directory = 0
    for member, text in zip(members, names, strict=True):
        name = text.encode()
        body = Body(STORED, 0, member.size, member.size)
        is_streamed = member.size > MOST_BYTES
        directory += len(central_header(name, member, body, offset, streamed=is_streamed))
        if is_streamed:
            data = sum(stored_size(count) for _, count in cut(member.size))
            offset += len(streamed_header(name, member)) + data + len(descriptor(member, body))
        else:
            offset += local_size(name, member) + member.size
    return offset + directory + len(end_records(len(members), directory, offset))
