"""Archives: a workspace in one life of a machine, whole or not at all."""

import base64
import os

import orjson
import pytest
from aiohttp import web

from gateway.domain.archives import ArchiveBounds
from gateway.domain.errors import (
    GatewayError,
    NotADirectory,
    Outage,
    PathNotFound,
    PathRefused,
    ProtocolFault,
    TooLarge,
    Unsupported,
    WorkspaceGone,
)
from gateway.executors.base import Executor
from gateway.executors.streams import (
    Packed,
)
from gateway.service.selection import Selector
from tests.gateways import plant
from tests.unit.executors.engines.tars import END, Given, held, member, packed
from tests.unit.executors.firecracker.rig import at, facing, firecracker

EXECUTE = "/execute"


async def archived(executor: Executor, asked: Packed | None = None, workspace: str = "s1") -> Given:
    async with executor.archive(workspace, asked or packed()) as members:
        return await held(members)


async def test_a_workspace_takes_one_call(executor, sessions, shannon):
    plant(sessions / "s1", {f"d{n}/e/f": b"%d" % n for n in range(300)})

    found = await archived(executor)

    assert {name: body for name, body in found.contents.items() if body is not None} == {
        b"a.txt": b"hello",
        **{b"d%d/e/f" % n: b"%d" % n for n in range(300)},
    }
    assert shannon.calls == [EXECUTE]


async def test_each_directory_takes_one_call(executor, sessions, shannon):
    plant(sessions / "s1", {"b/c/f": b"1", "b/d/g": b"2", "e/h": b"3", "x/y": b""})

    found = await archived(executor, packed(paths=(at("b/c"), at("e"))))

    assert found.contents == {b"b/c": None, b"b/c/f": b"1", b"e": None, b"e/h": b"3"}
    assert shannon.calls == [EXECUTE] * 2


async def test_times_modes_and_names_are_exact(executor, sessions):
    names = [b"\xff\xfe", b"line\nbreak", b"a..b", "é".encode(), b"n" * 255, b"'\"\\"]
    plant(sessions / "s1", {b"d/" + b"long" * 20 + b"/" + name: name for name in names})
    times = {"a.txt": 1_234_567_890_123_456_789, "d": -1_500_000_000}
    for name, ns in times.items():
        os.utime(sessions / "s1" / name, ns=(0, ns))
    (sessions / "s1" / "a.txt").chmod(0o4750)

    found = await archived(executor)

    assert {found.contents[b"d/" + b"long" * 20 + b"/" + name] for name in names} == {*names}
    assert [found.members[name.encode()].mtime_ns for name in times] == [*times.values()]
    assert found.members[b"a.txt"].mode == 0o4750


async def test_links_are_what_they_lead_to_and_what_is_no_file_is_counted(executor, sessions):
    links = {
        "dir/x": b"12",
        "file": "dir/x",
        "dir/up": "../a.txt",
        "link": "dir",
        "out": "/etc/passwd",
        "other": "../s2/secret",
        "dangling": "nothing",
        "loop": "loop",
    }
    plant(sessions / "s2", {"secret": b""})
    plant(sessions / "s1", links)
    os.mkfifo(sessions / "s1" / "pipe")
    os.link(sessions / "s1" / "dir/x", sessions / "s1" / "hard")

    found = await archived(executor)

    assert found.contents == {
        b"a.txt": b"hello",
        b"dir": None,
        b"dir/up": b"hello",
        b"dir/x": b"12",
        b"file": b"12",
        b"hard": b"12",
    }
    assert found.skipped == 6


async def test_what_is_excluded_is_not_sent(sessions, shannon):
    """Though it would be too large: that takes a second call."""
    plant(
        sessions / "s1", {"node_modules/x/y": bytes(500_000), "z/node_modules/f": b"", "z/f": b""}
    )
    selection = Selector.parse(None, ["node_modules/"])

    async with firecracker(shannon.url, max_file=100_000) as executor:
        found = await archived(executor, packed(selection=selection))
        below = await archived(executor, packed(selection=selection, paths=(at("z"),)))

    assert [*found.contents] == [b"a.txt", b"z", b"z/f"]
    assert [*below.contents] == [b"z", b"z/f"]
    assert shannon.calls == [EXECUTE] * 4


@pytest.mark.parametrize("size", [100_000, 99_000])
async def test_what_is_too_large_for_an_answer_is_left_to_others(sessions, shannon, size):
    plant(sessions / "s1", {"f": bytes(size)})

    async with firecracker(shannon.url, max_file=100_000) as executor:
        with pytest.raises(Unsupported):
            await archived(executor)


async def test_what_is_too_large_for_everybody_is_told_by_its_name(sessions, shannon):
    plant(sessions / "s1", {"d/f": bytes(200_000)})
    bounds = ArchiveBounds(entries=9, bytes=10**6, file=150_000, depth=9)

    async with firecracker(shannon.url, max_file=100_000) as executor:
        with pytest.raises(TooLarge) as raised:
            await archived(executor, packed(bounds))

    assert "'d/f'" in raised.value.message


@pytest.mark.parametrize(
    ("workspace", "path", "expected"),
    [
        ("s1", "missing", PathNotFound),
        ("s1", "a.txt", NotADirectory),
        ("s1", "a.txt/x", NotADirectory),
        ("s1", "out", PathRefused),
        ("s2", "", WorkspaceGone),
        ("s2", "x", WorkspaceGone),
    ],
)
async def test_what_is_no_directory_is_told(executor, sessions, workspace, path, expected):
    plant(sessions / "s1", {"out": "/etc"})

    with pytest.raises(GatewayError) as raised:
        await archived(executor, packed(paths=(at(path),)), workspace)

    assert type(raised.value) is expected


async def test_an_output_that_was_cut_is_a_fault(executor, sessions, shannon):
    plant(sessions / "s1", {"f": bytes(9000)})
    for most in (0, 1, 5, 6, 700, 5000, 14_000):
        shannon.most_output = most
        with pytest.raises(ProtocolFault):
            await archived(executor)


def envelope_of(output: bytes) -> bytes:
    """An answer of the executor's, of a program that wrote that in base64."""
    text = base64.b64encode(output).decode()
    return orjson.dumps({"success": True, "stdout": text, "stderr": "", "exit_code": 0})


TAR = b"tar\n" + member(b"f", b"x") + END


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"tar",
        b"tar\n",
        TAR[:-512],
        TAR + b"x",
        b"tar\n" + member(b"../f") + END,
        b"x" * 40 + b"\n",
        b"no such word\n",
        b"\xff\n",
    ],
)
async def test_what_is_no_tar_is_a_fault(output):
    async with facing({EXECUTE: envelope_of(output)}) as executor:
        with pytest.raises(ProtocolFault):
            await archived(executor)


@pytest.mark.parametrize(
    "answer",
    [
        orjson.dumps({"success": False, "stdout": "", "stderr": "Traceback"}),
        envelope_of(TAR).replace(b"true", b"false"),
        envelope_of(TAR)[:-1],
        envelope_of(TAR).replace(b'"stdout":"', b'"stdout":"!'),
        b'{"success":true}',
        b"[]",
        web.Response(status=200, text="no JSON"),
        web.Response(status=503),
        web.Response(status=404),
    ],
)
async def test_an_answer_that_is_not_whole_is_an_outage(answer):
    async with facing({EXECUTE: answer}) as executor:
        with pytest.raises(Outage):
            await archived(executor)


async def test_more_than_was_asked_for_is_not_taken():
    async with facing({EXECUTE: envelope_of(TAR + bytes(5000))}, max_file=2000) as executor:
        with pytest.raises(Outage):
            await archived(executor)


async def test_the_room_is_given_back(sessions, shannon):
    plant(sessions / "s1", {"f": bytes(60_000)})

    async with firecracker(shannon.url, spool=100_000) as executor:
        for _ in range(3):
            assert len((await archived(executor)).contents) == 2


async def test_a_bound_stops_it(executor, sessions):
    plant(sessions / "s1", {f"d/{n}": b"" for n in range(20)})

    with pytest.raises(GatewayError) as raised:
        await archived(executor, packed(ArchiveBounds(entries=9, bytes=99, file=99, depth=9)))

    assert "'d/15'" in raised.value.message  # the tenth in order
