"""Whatever becomes of a tar on its way: what it held, or a verdict, and nothing else."""

import asyncio
import io
import tarfile

from hypothesis import given as tried
from hypothesis import settings
from hypothesis import strategies as some

from gateway.domain.archives import ArchiveBounds
from gateway.domain.errors import Outage, TooLarge
from tests.unit.executors.engines.tars import Given, block, given, link, member, packed, pax

BOUNDS = ArchiveBounds(entries=50, bytes=5000, file=2000, depth=6)
BODIES = {"a": b"alpha" * 99, "d/b": b"beta" * 300, "d/e": b"", "x" * 120: b"long"}


def _tar(form: int) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as tar:
        directory = tarfile.TarInfo("d")
        directory.type = tarfile.DIRTYPE
        tar.addfile(directory)
        for name, body in BODIES.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(body), 1.5
            tar.addfile(info, io.BytesIO(body))
        for kind, target in ((tarfile.LNKTYPE, "a"), (tarfile.SYMTYPE, "d/b")):
            info = tarfile.TarInfo(f"link{kind.decode()}")
            info.type, info.linkname = kind, target
            tar.addfile(info)
    return made.getvalue()


TARS = [_tar(tarfile.PAX_FORMAT), _tar(tarfile.GNU_FORMAT)]


def outcome(tar: bytes, piece: int = 65536) -> Given | None:
    """What *tar* gives; None for a verdict. Anything else that is raised fails the test."""
    try:
        return asyncio.run(given(tar, asked=packed(BOUNDS), piece=piece))
    except (Outage, TooLarge):
        return None


def is_python_of_one_mind(tar: bytes, found: Given) -> bool:
    """Whether Python's reader has the same bytes wherever it finds such a file, too."""
    with tarfile.open(fileobj=io.BytesIO(tar), errorlevel=2, errors="surrogateescape") as other:
        last = {}
        for info in other:
            name = info.name.encode(errors="surrogateescape").strip(b"/")
            last[b"/".join(part for part in name.split(b"/") if part not in (b"", b"."))] = info
        for name, held in found.contents.items():
            info = last.get(name)
            if info is not None and info.isreg():
                file = other.extractfile(info)
                assert file is not None
                if file.read() != held:
                    return False
    return True


@settings(max_examples=300)
@tried(some.sampled_from(TARS), some.data())
def test_a_changed_tar_is_read_as_others_read_it_or_not_at_all(tar, data):
    changed = bytearray(tar)
    for _ in range(data.draw(some.integers(1, 4))):
        at = data.draw(some.integers(0, len(changed) - 1))
        changed[at] = data.draw(some.integers(0, 255))
    found = outcome(bytes(changed))

    assert found is None or is_python_of_one_mind(bytes(changed), found)


@settings(max_examples=300)
@tried(some.sampled_from(TARS), some.data())
def test_a_header_that_lies_with_a_good_checksum_is_read_as_others_read_it(tar, data):
    changed = bytearray(tar)
    first = 512 * data.draw(some.integers(0, len(changed) // 512 - 1))
    for _ in range(data.draw(some.integers(1, 3))):
        at = data.draw(some.sampled_from([*range(100), *range(124, 136), 156, *range(157, 200)]))
        changed[first + at] = data.draw(some.sampled_from([*b"0127x/.\0 LKxgS5", 0x80, 0xFF]))
    total = sum(changed[first : first + 512]) - sum(changed[first + 148 : first + 156]) + 256
    changed[first + 148 : first + 156] = b"%06o\0 " % total
    found = outcome(bytes(changed))

    assert found is None or is_python_of_one_mind(bytes(changed), found)


@settings(max_examples=200)
@tried(some.sampled_from(TARS), some.data())
def test_a_tar_that_lost_a_part_is_not_read(tar, data):
    """Unless what it lost are whole members: then it is another tar."""
    end = len(tar.rstrip(b"\0")) + 1024
    assert outcome(tar[: data.draw(some.integers(0, end - 1024))]) is None


@settings(max_examples=200)
@tried(some.binary(max_size=3000), some.integers(1, 700))
def test_noise_is_a_verdict(noise, piece):
    outcome(noise, piece)
    outcome(TARS[0][:-10240] + noise + bytes(1024), piece)


NAMES = some.sampled_from([b"a", b"b", b"d", b"d/a", b"d/b", b"d/e/f", b"./a", b"d/", b"l", b"m"])
MEMBERS = some.one_of(
    some.builds(member, NAMES, some.binary(max_size=600)),
    some.builds(lambda name: block(name, b"5"), NAMES),
    some.builds(link, NAMES, NAMES, some.sampled_from([b"1", b"2"])),
    some.builds(lambda name: pax(path=name), NAMES),
    some.builds(lambda name: block(name, b"6"), NAMES),
)


@settings(max_examples=400)
@tried(some.lists(MEMBERS, max_size=12), some.integers(1, 2000))
def test_whatever_a_tar_holds_its_members_make_a_tree(members, piece):
    found = outcome(b"".join(members) + bytes(1024), piece)

    if found is not None:
        paths = [tuple(path.split(b"/")) for path in found.members]
        assert paths == sorted(set(paths))
        files = {path for path in paths if not found.members[b"/".join(path)].is_directory}
        for path in paths:
            assert not {path[:count] for count in range(1, len(path))} & files
