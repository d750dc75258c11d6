"""Tars of whoever made them: exactly what they hold, or a verdict."""

import asyncio
import gzip
import os
import tracemalloc

import pytest

from gateway.domain.archives import ArchiveBounds
from gateway.domain.errors import Busy, GatewayError, ProtocolFault, TooLarge, Unsupported
from gateway.domain.paths import WorkspacePath
from gateway.executors.engines.tar_tree import Place
from gateway.service.selection import Selector
from tests.unit.executors.engines.tars import (
    BOUNDS,
    END,
    block,
    extended,
    given,
    link,
    member,
    packed,
    pax,
    record,
)

LONG = b"long/" + b"n" * 200


def base256(value: int, size: int) -> bytes:
    field = bytearray(value.to_bytes(size, "big", signed=True))
    field[0] |= 0x80
    return bytes(field)


@pytest.mark.parametrize("piece", [1, 7, 511, 512, 513, 65536])
async def test_a_tar_may_come_in_any_pieces(piece):
    contents = {b"a": b"1", b"d": None, b"d/b": bytes(range(256)) * 9, b"d/c": b""}
    tar = member(b"a", b"1") + block(b"d/", b"5") + member(b"d/b", contents[b"d/b"])

    found = await given(tar + member(b"d/c") + END, piece=piece)

    assert found.contents == contents


async def test_members_come_in_the_order_of_their_paths():
    names = [b"b-", b"b/a", b"b", b"a/z/y", b"c"]

    found = await given(b"".join(member(name) for name in names if name != b"b") + END)

    assert list(found.members) == [b"a", b"a/z", b"a/z/y", b"b", b"b/a", b"b-", b"c"]


async def test_directories_that_are_not_in_the_tar_are_added():
    found = await given(member(b"a/b/f", b"x") + END)

    assert found.contents == {b"a": None, b"a/b": None, b"a/b/f": b"x"}
    assert (found.members[b"a"].mtime_ns, found.members[b"a"].mode) == (None, 0o755)


async def test_a_directory_keeps_what_is_told_of_it_wherever_that_stands():
    found = await given(member(b"d/f") + block(b"d", b"5", mode=b"0000700") + END)

    assert (found.members[b"d"].mtime_ns, found.members[b"d"].mode) == (10**9, 0o700)


@pytest.mark.parametrize(
    ("tar", "name"),
    [
        (member(b"f", b"x"), b"f"),
        (member(b"./f", b"x"), b"f"),
        (member(b".//d/./f", b"x"), b"d/f"),
        (member(b"n" * 100, b"x"), b"n" * 100),
        (member(b"f", b"x", prefix=b"a/b"), b"a/b/f"),
        (member(b"f", b"x", prefix=b"p" * 155), b"p" * 155 + b"/f"),
        (member(b"f", b"x", magic=b"ustar  \0", prefix=b"garbage"), b"f"),
        (member(b"f", b"x", magic=b"", prefix=b"garbage"), b"f"),
        (member(b"f", b"x", b"\0"), b"f"),
        (member(b"f", b"x", b"7"), b"f"),
        (pax(path=LONG) + member(b"f", b"x"), LONG),
        (pax(path=b"a=b\nc") + member(b"f", b"x"), b"a=b\nc"),
        (pax(path=b"") + member(b"f", b"x"), b"f"),
        (pax(size=b"1") + member(b"f", b"x", size=b"00000000777"), b"f"),
        (pax(comment=b"x", uid=b"y") + member(b"f", b"x"), b"f"),
        (pax(b"X", path=LONG) + member(b"f", b"x"), LONG),
        (pax(b"g", comment=b"y") + member(b"f", b"x"), b"f"),
        (extended(b"", b"x") + member(b"f", b"x"), b"f"),
        (member(b"././@LongLink", LONG + b"\0", b"L") + member(b"f", b"x"), LONG),
        (member(b"f", b"x", size=base256(1, 12)), b"f"),
        (member(b"f", b"x", size=b"          1 "), b"f"),
        (member(b"f", b"x", size=b"000000000001"), b"f"),
        (member(b"\xff\xfe", b"x"), b"\xff\xfe"),
        (member(b"..a\\..\\b", b"x"), b"..a\\..\\b"),
        (block(b"label", b"V") + member(b"f", b"x"), b"f"),
    ],
)
async def test_a_name_stands_in_many_places(tar, name):
    found = await given(tar + END)

    assert {path: held for path, held in found.contents.items() if held is not None} == {name: b"x"}
    assert found.skipped == 0


@pytest.mark.parametrize(
    ("tar", "mtime_ns"),
    [
        (member(b"f", mtime=b"00000000012"), 10 * 10**9),
        (member(b"f", mtime=base256(-1, 12)), -(10**9)),
        (member(b"f", mtime=base256(2**34, 12)), 2**34 * 10**9 if 2**34 * 10**9 < 2**63 else None),
        (pax(mtime=b"1.5") + member(b"f"), 1_500_000_000),
        (pax(mtime=b"1.123456789999") + member(b"f"), 1_123_456_789),
        (pax(mtime=b"-2.25") + member(b"f"), -2_250_000_000),
        (pax(b"g", mtime=b"7") + member(b"f"), 7 * 10**9),
        (pax(b"g", mtime=b"7") + pax(mtime=b"8") + member(b"f"), 8 * 10**9),
    ],
)
async def test_a_time_is_exact(tar, mtime_ns):
    if mtime_ns is None:
        with pytest.raises(ProtocolFault):
            await given(tar + END)
    else:
        assert (await given(tar + END)).members[b"f"].mtime_ns == mtime_ns


async def test_what_nobody_heeds_takes_no_memory():
    """Records of any name, in any number, of all members and of one."""

    async def headers():
        for number in range(200):
            yield pax(b"gx"[number % 2 :][:1], **{f"key{number}": b"v" * 500_000})
        yield member(b"f", b"x") + END

    tracemalloc.start()
    try:
        found = await given(headers())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert found.contents == {b"f": b"x"}
    assert peak < 20_000_000


async def test_what_an_extended_header_says_is_of_the_next_member_only():
    found = await given(pax(path=b"x", mtime=b"9") + member(b"f", b"1") + member(b"f", b"2") + END)

    assert found.contents == {b"f": b"2", b"x": b"1"}
    assert found.members[b"f"].mtime_ns == 10**9


@pytest.mark.parametrize(
    "tar",
    [
        b"",
        bytes(512),
        bytes(1023),
        member(b"f", b"x"),
        member(b"f", b"x") + bytes(512),
        member(b"f", b"x") + bytes(1000),
        member(b"f", b"x")[:600],
        member(b"f", b"x" * 1024)[:-512],
        block(b"f", size=b"00000000001") + END,
        pax(path=b"x") + END,
        member(b"f") + bytes(512) + member(b"g") + END,
        END + member(b"f") + END,
        END + b"garbage",
        END + bytes(511) + b"x",
        END + bytes(512 * 5000),
        b"<html>not a tar</html>".ljust(512) + END,
        gzip.compress(member(b"f") + END, mtime=0),
    ],
)
async def test_a_tar_without_its_end_is_none(tar):
    with pytest.raises(ProtocolFault):
        await given(tar)


async def test_a_tar_may_be_filled_up_to_a_record():
    assert (await given(member(b"f", b"x") + END + bytes(9728))).contents == {b"f": b"x"}


@pytest.mark.parametrize(
    "tar",
    [
        member(b"f", checksum=b"000000\0 "),
        member(b"f", checksum=b"x" * 8),
        member(b"/etc/passwd", b"x"),
        member(b"../x", b"x"),
        member(b"a/../../x", b"x"),
        member(b"a/..", b"x"),
        pax(path=b"../x") + member(b"f"),
        pax(path=b"/x") + member(b"f"),
        pax(path=b"x\0y") + member(b"f"),
        member(b"L", b"../x\0", b"L") + member(b"f"),
        member(b"", b"x"),
        member(b".", b"x"),
        member(b"f/", b"x"),
        link(b".", b"x"),
        member(b"f", size=b"0o17"),
        member(b"f", size=b"1_0"),
        member(b"f", size=b"-1"),
        member(b"f", size=b"8"),
        member(b"f", size=b"1\x001"),
        member(b"f", b"x", size=b"\x001"),
        member(b"f", size=base256(-512, 12)),
        member(b"f", size=base256(2**63, 12)),
        member(b"f", size=b"\x81" + bytes(11)),
        member(b"f", mtime=base256(2**62, 12)),
        pax(size=b"-1") + member(b"f"),
        pax(size=b"1.0") + member(b"f"),
        pax(size=b"9" * 20) + member(b"f"),
        pax(size="١".encode()) + member(b"f"),
        pax(mtime=b"nan") + member(b"f"),
        pax(mtime=b"1e9") + member(b"f"),
        pax(mtime=b"9999999999999999999") + member(b"f"),
        member(b"f") + pax(path=b"x"),
        member(b"f") + pax(comment=b"x"),
        member(b"f") + extended(b""),
        member(b"f") + pax(b"g", comment=b"x"),
        pax(b"g", path=b"x") + member(b"f"),
        pax(b"g", size=b"0") + member(b"f"),
        pax(path=b"x") + pax(path=b"y") + member(b"f"),
        pax(path=b"x") + member(b"L", b"y\0", b"L") + member(b"f"),
        extended(b"x") + member(b"f"),
        extended(b"99 path=x\n") + member(b"f"),
        extended(b"3 path=x\n") + member(b"f"),
        extended(b"9 path=xy") + member(b"f"),
        extended(b"09 path=x\n") + member(b"f"),
        extended(record(b"", b"x")) + member(b"f"),
        extended(record(b"path", b"x") + b"\0" * 9) + member(b"f"),
        block(b"f", b"x", size=b"00010000000"),
        member(b"d", b"x", b"5"),
        member(b"d", b"x", b"1", target=b"f"),
        member(b"d", b"x", b"2", target=b"f"),
        member(b"d", b"x", b"6"),
        member(b"d/", b"x", b"\0"),
        member(b"f", b"x") + member(b"f/g", b"x"),
        link(b"f", b"d") + block(b"d", b"5") + member(b"f/g", b"x"),
    ],
)
async def test_what_no_honest_backend_writes_is_a_fault(tar):
    with pytest.raises(ProtocolFault):
        await given(tar + END)


@pytest.mark.parametrize(
    "tar",
    [
        member(b"f", b"x" * 512, b"S", magic=b"ustar  \0"),
        pax(**{"GNU.sparse.major": b"1"}) + member(b"f", b"x"),
        pax(**{"GNU.sparse.map": b"0,1"}) + member(b"f", b"x"),
        member(b"d", b"Yf\0\0", b"D"),
        member(b"f", b"x", b"M"),
    ],
)
async def test_a_sparse_file_is_never_taken_for_what_stands_in_the_tar(tar):
    with pytest.raises(Unsupported):
        await given(tar + END)


async def test_a_hard_link_is_a_file_of_its_own():
    found = await given(member(b"f", b"body") + member(b"g", b"g") + link(b"h", b"f", b"1") + END)

    assert found.contents == {b"f": b"body", b"g": b"g", b"h": b"body"}
    assert found.members[b"f"].version == found.members[b"h"].version
    assert found.skipped == 0


@pytest.mark.parametrize("target", [b"missing", b"later", b"../f", b"/f", b"d", b"", b"x/f"])
async def test_a_hard_link_to_what_has_not_come_is_counted(target):
    tar = block(b"d", b"5") + member(b"f") + link(b"h", target, b"1") + member(b"later") + END

    found = await given(tar)

    assert list(found.contents) == [b"d", b"f", b"later"]
    assert found.skipped == 1


async def test_a_hard_link_keeps_the_file_that_its_target_was():
    tar = member(b"f", b"old") + link(b"h", b"./f", b"1") + member(b"f", b"new") + END

    assert (await given(tar)).contents == {b"f": b"new", b"h": b"old"}


@pytest.mark.parametrize(
    ("at", "text", "content"),
    [
        (b"l", b"f", b"f"),
        (b"l", b"./f", b"f"),
        (b"l", b"d/g", b"g"),
        (b"d/l", b"../f", b"f"),
        (b"d/l", b"g", b"g"),
        (b"d/l", b"../d/../d/g", b"g"),
        (b"l", b"chain", b"f"),
        (b"l", b"dl/g", b"g"),
        (b"l", b"dl/../f", b"f"),
        (b"l", b"/workspace/d/g", b"g"),
        (b"l", b"//workspace/./f", b"f"),
        (b"l", b"missing", None),
        (b"l", b"", None),
        (b"l", b"d", None),
        (b"l", b"f/", None),
        (b"l", b"f/.", None),
        (b"l", b"f/../f", None),
        (b"l", b"l", None),
        (b"l", b"../f", None),
        (b"d/l", b"../../workspace/f", None),
        (b"l", b"/etc/passwd", None),
        (b"l", b"/workspace", None),
        (b"l", b"/workspace/../f", None),
        (b"l", b"/workspacef", None),
        (b"l", b"a/" * 2000 + b"f", None),
        (b"l", b"./" * 2047 + b"f", b"f"),
        (b"l", b"./" * 2048 + b"f", None),
    ],
)
async def test_a_link_to_a_file_inside_is_that_file(at, text, content):
    linked = member(b"K", text + b"\0", b"K") + link(at, b"cut")
    rest = member(b"f", b"f") + member(b"d/g", b"g") + link(b"chain", b"f") + link(b"dl", b"d")

    found = await given(linked + rest + END, root=(b"workspace",))

    assert found.contents.get(at) == content
    assert found.skipped == 1 + (content is None)  # "dl" leads to a directory


async def test_links_in_a_ring_are_counted_and_cost_little():
    ring = [link(b"l%d" % n, b"l%d" % ((n + 1) % 50)) for n in range(50)]

    assert (await given(b"".join(ring) + END)).skipped == 50


async def test_links_that_go_up_and_down_for_ever_cost_little():
    text = b"d/../" * 750 + b"f"
    tar = b"".join(member(b"K", text, b"K") + link(b"l%d" % n, b"") for n in range(900))
    tar += b"".join(member(b"K", b"l0/../" * 600, b"K") + link(b"m%d" % n, b"") for n in range(90))

    async with asyncio.timeout(20):
        found = await given(tar + block(b"d", b"5") + member(b"f", b"x") + END)

    assert len(found.contents) + found.skipped == 992


async def test_without_a_root_an_absolute_link_leaves():
    assert (await given(member(b"f") + link(b"l", b"/f") + END)).skipped == 1


@pytest.mark.parametrize("kind", [b"3", b"4", b"6", b"Z"])
async def test_what_is_no_file_is_counted(kind):
    found = await given(block(b"odd", kind) + member(b"f") + END)

    assert list(found.contents) == [b"f"]
    assert found.skipped == 1


async def test_a_path_that_no_system_takes_is_counted():
    found = await given(pax(path=b"d/" * 2100 + b"f") + member(b"f") + END)

    assert found.contents == {}
    assert found.skipped == 1


async def test_of_one_name_the_last_counts():
    tar = member(b"f", b"1") + member(b"f", b"22") + block(b"g", b"5") + member(b"g", b"x")
    tar += member(b"h", b"x") + block(b"h", b"6")

    found = await given(tar + END)

    assert found.contents == {b"f": b"22", b"g": b"x"}
    assert found.skipped == 1


async def test_equal_bytes_have_equal_versions_and_others_have_others():
    first = await given(member(b"a", b"same") + member(b"b", b"same") + member(b"c", b"diff") + END)
    later = await given(member(b"c", b"new!") + member(b"a", b"same", mtime=b"00000000777") + END)

    versions = {name: found.version for name, found in first.members.items()}
    assert versions[b"a"] == versions[b"b"] == later.members[b"a"].version
    assert len({versions[b"a"], versions[b"c"], later.members[b"c"].version}) == 3


@pytest.mark.parametrize("prefix", [b"workspace", b"./workspace"])
async def test_a_prefix_is_taken_off(prefix):
    tar = block(prefix + b"/", b"5") + member(prefix + b"/f", b"x")
    tar += link(prefix + b"/h", b"workspace/f", b"1")

    found = await given(tar + END, places=(Place(prefix=(b"workspace",)),))

    assert found.contents == {b"f": b"x", b"h": b"x"}


@pytest.mark.parametrize("name", [b"f", b"workspace2/f", b"other/f", b"./f", b"."])
async def test_what_is_outside_of_the_prefix_is_a_fault(name):
    with pytest.raises(ProtocolFault):
        await given(member(name) + END, places=(Place(prefix=(b"workspace",)),))


async def test_several_tars_make_one_workspace():
    places = tuple(Place(WorkspacePath((b"w", base)), (base,)) for base in (b"a", b"b"))

    found = await given(
        member(b"a/f", b"in a") + link(b"a/l", b"f") + link(b"a/out", b"../b/f") + END,
        block(b"b", b"5") + member(b"b/f", b"in b") + link(b"b/h", b"b/f", b"1") + END,
        places=places,
    )

    assert found.contents == {
        b"w/a": None,
        b"w/a/f": b"in a",
        b"w/a/l": b"in a",
        b"w/a/out": b"in b",
        b"w/b": None,
        b"w/b/f": b"in b",
        b"w/b/h": b"in b",
    }


async def test_what_is_excluded_takes_no_room():
    selection = Selector.parse(None, ["node_modules/", "*.log"])
    tar = block(b"node_modules", b"5") + member(b"node_modules/a/b", b"x" * 9000)
    tar += member(b"f.log", b"x" * 9000) + member(b"d/f", b"y") + link(b"l", b"f.log")

    found = await given(tar + END, asked=packed(selection=selection), room=1)

    assert found.contents == {b"d": None, b"d/f": b"y"}
    assert found.skipped == 1  # the link


async def test_without_room_it_is_not_taken():
    with pytest.raises(Busy):
        await given(member(b"f", b"x" * 1000) + END, room=999)


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ({"entries": 3}, "maximum number of entries (3)"),
        ({"bytes": 29}, "maximum size (29 bytes)"),
        (
            {"file": 19},
            "limit (19 bytes) at 'd/big'; to leave that out: exclude=/d/big",
        ),
        ({"depth": 1}, "maximum depth (1 levels) at 'd'"),
        ({"entries": 4, "bytes": 30, "file": 20, "depth": 2}, None),
    ],
)
async def test_what_is_out_of_bounds_is_named(bounds, said):
    tar = member(b"a", b"x" * 10) + block(b"d", b"5") + member(b"d/big", b"x" * 20) + member(b"e")
    asked = packed(ArchiveBounds(**{**vars_of(BOUNDS), **bounds}))

    if said is None:
        assert len((await given(tar + END, asked=asked)).members) == 4
        return
    with pytest.raises(TooLarge) as raised:
        await given(tar + END, asked=asked)
    assert said in raised.value.message


def vars_of(bounds: ArchiveBounds) -> dict[str, int]:
    return {name: getattr(bounds, name) for name in ("entries", "bytes", "file", "depth")}


@pytest.mark.parametrize("kind", [b"1", b"2"])
async def test_links_count_as_the_files_that_they_become(kind):
    tar = member(b"f", b"x" * 100) + b"".join(link(b"l%d" % n, b"f", kind) for n in range(10))
    asked = packed(ArchiveBounds(entries=100, bytes=1000, file=100, depth=9))

    with pytest.raises(TooLarge):
        await given(tar + END, asked=asked)


async def test_directories_that_are_implied_count():
    asked = packed(ArchiveBounds(entries=50, bytes=1000, file=100, depth=90))

    with pytest.raises(TooLarge):
        await given(member(b"d/" * 25 + b"f") + member(b"e/" * 24 + b"f") + END, asked=asked)


@pytest.mark.parametrize("more", [member(b"x.log", b"y" * 5000), block(b"x", b"6")])
async def test_a_tar_that_never_ends_is_left(more):
    async def for_ever():
        while True:
            yield more * 50

    selection = Selector.parse(None, ["*.log"])
    asked = packed(ArchiveBounds(entries=10, bytes=1000, file=100, depth=9), selection)
    with pytest.raises(Unsupported):
        await given(for_ever(), asked=asked)


async def test_gzip_is_inflated_as_it_comes():
    body = os.urandom(3_000_000)
    tar = member(b"f", body) + member(b"z", bytes(9_000_000)) + END
    half = len(tar) // 3
    compressed = gzip.compress(tar[:half]) + gzip.compress(b"") + gzip.compress(tar[half:])

    found = await given(compressed, is_gzip=True, piece=1000)

    assert found.contents == {b"f": body, b"z": bytes(9_000_000)}


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-1],
        lambda data: data[:-8],
        lambda data: data[:20],
        lambda data: b"",
        lambda data: data + b"\0",
        lambda data: data + b"garbage",
        lambda data: data + data[:9],
        lambda data: data[:-5] + bytes([data[-5] ^ 1]) + data[-4:],
        lambda data: data[:-1] + b"\1",
        lambda data: gzip.decompress(data),
        lambda data: gzip.compress(gzip.decompress(data)[:-1024]),
    ],
)
async def test_gzip_that_is_not_whole_is_none(change):
    with pytest.raises(ProtocolFault):
        await given(change(gzip.compress(member(b"f", b"x" * 5000) + END)), is_gzip=True)


async def test_a_bomb_is_left_after_what_may_be_wanted():
    bomb = gzip.compress(member(b"f", bytes(9_000_000)) + END)

    with pytest.raises(GatewayError):
        await given(
            bomb, is_gzip=True, asked=packed(ArchiveBounds(entries=9, bytes=99, file=9, depth=9))
        )


@pytest.mark.parametrize("mtime", [b"00000000000", b"00000000001"])
@pytest.mark.parametrize("is_last", [True, False])
async def test_what_the_backend_made_is_left_out(mtime, is_last):
    """Unless it is the agent's own file of that name: that is older than nothing, and not last."""
    made = member(b"w/made.json", b"{}", mtime=mtime)
    tar = made if is_last else made + member(b"w/f")

    found = await given(tar + END, places=(Place(prefix=(b"w",)),), made="made.json")

    assert (b"made.json" in found.contents) is not (is_last and mtime == b"0" * 11)


async def test_a_tar_of_nothing_is_an_empty_workspace():
    found = await given(END)

    assert (found.contents, found.skipped) == ({}, 0)
