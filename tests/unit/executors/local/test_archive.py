"""Archives of this host's directories: nothing from outside, nothing that cannot be opened."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.domain.archives import Bodies, Member
from gateway.domain.errors import PathRefused, TooLarge, Unavailable
from gateway.domain.paths import WorkspacePath
from gateway.executors.local.helper import Helper
from gateway.executors.local.local import Local
from gateway.executors.local.tree import Area, walk_rows
from gateway.system.resolver import choose, open_file
from gateway.system.states import state_of
from tests import needs
from tests.contract.asking import UNBOUNDED, asked, members_of, packed, refusal
from tests.contract.test_walk import Chosen
from tests.unit.executors.local.rig import OUTSIDE, RESOLVERS, Place, running
from tests.unit.executors.local.test_helper import found, helpers_of, is_gone, until

EVERYTHING = Chosen(lambda path: False, lambda path: True)


def read(bodies: Bodies, member: Member) -> bytes:
    """As another process would."""
    assert bodies.resolver is not None
    fd, status = open_file(choose(*bodies.resolver), bodies.descriptor, member.parts)
    try:
        assert (state_of(status), status.st_size) == (member.version, member.size)
        return os.pread(fd, member.size + 1, 0)
    finally:
        os.close(fd)


async def plan(executor: Local) -> list[Member]:
    async with members_of(executor, "s1", asked()) as members:
        return [*members.members]


async def test_no_link_leads_out(place: Place, executor: Local) -> None:
    """Rows 11, 12 and 15."""
    place.file("f")
    place.file("d/f")
    for name, target in [
        ("absolute", "/etc/passwd"),
        ("up", "../../outside/f"),
        ("neighbour", "../s1-secret/f"),
        ("back", "../s1/f"),
        ("directory", str(place.outside)),
        ("d/directory", "../.."),
        ("loop", "loop"),
        ("dangling", "missing"),
    ]:
        place.link(name, target)

    members, skipped = await packed(executor, "s1", asked())

    assert members == {b"d": None, b"d/f": b"inside", b"f": b"inside"}
    assert skipped == 8
    for path in ("directory", "d/directory"):
        assert await refusal(executor.archive("s1", asked(path))) is PathRefused


async def test_what_is_no_file_is_never_opened(place: Place, executor: Local) -> None:
    """Rows 17 and 18."""
    place.file("f")
    place.link("to-pipe", "pipe")
    os.mkfifo(place.session / "pipe")
    skipped = 2
    if os.geteuid() == 0:
        os.mknod(place.session / "null", 0o666 | 0o020000, os.makedev(1, 3))
        skipped += 1
    begun = time.perf_counter()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.fspath(place.session / "socket"))

        assert await packed(executor, "s1", asked()) == ({b"f": b"inside"}, skipped + 1)

    assert time.perf_counter() - begun < 1


@pytest.mark.parametrize(
    ("bounds", "limit"),
    [
        (replace(UNBOUNDED, file=100 << 20), "file exceeds maximum size limit (100MB) at 'sparse'"),
        (replace(UNBOUNDED, bytes=2 << 30), "archive exceeds maximum size (2GB) at 'sparse'"),
    ],
)
async def test_a_sparse_file_is_as_large_as_it_says(
    place: Place, executor: Local, bounds: object, limit: str
) -> None:
    """Row 28."""
    os.truncate(place.file("sparse"), 10 << 30)
    begun = time.perf_counter()

    with pytest.raises(TooLarge) as raised:
        async with executor.archive("s1", asked(bounds=bounds)):
            pass

    assert raised.value.message.startswith(limit)
    assert time.perf_counter() - begun < 1


async def test_a_walk_ends_at_the_first_that_is_too_much(place: Place, executor: Local) -> None:
    deep = place.session
    for _ in range(300):
        deep = deep / "d"
    deep.mkdir(parents=True)
    place.file("z/f")

    with pytest.raises(TooLarge) as raised:
        async with executor.archive("s1", asked(bounds=replace(UNBOUNDED, depth=64))):
            pass

    path = "/".join(["d"] * 64)
    assert raised.value.message == (
        f"archive exceeds maximum depth (64 levels) at {path!r}; to leave that out: exclude=/{path}"
    )


async def test_bodies_are_found_by_another_process(place: Place) -> None:
    """Through links, too; by the resolver that the executor has, below the same directory."""
    place.file("d/f", b"one")
    place.file("private", b"two").chmod(0o600)
    place.link("to-f", "d/f")
    place.link("mapped", "/workspace/private")
    expected = {b"d/f": b"one", b"mapped": b"two", b"private": b"two", b"to-f": b"one"}
    for resolver in RESOLVERS:
        async with (
            running(place, resolver, "/workspace") as executor,
            members_of(executor, "s1", asked()) as members,
        ):
            place.session.rename(place.root / "s2")
            place.session.mkdir()
            bodies = members.bodies
            assert bodies is not None
            files = [member for member in members.members if not member.is_directory]
            assert {b"/".join(each.parts): read(bodies, each) for each in files} == expected
            place.session.rmdir()
            (place.root / "s2").rename(place.session)


async def test_a_version_tells_what_size_and_time_do_not(place: Place, executor: Local) -> None:
    place.file("f", b"one")
    place.file("g", b"one")
    place.link("to-f", "f")
    os.utime(place.session / "f", ns=(1, 1))
    before = await plan(executor)
    assert await plan(executor) == before
    async with running(place) as other:
        assert await plan(other) == before
    selected = asked(selection=EVERYTHING)
    async with members_of(executor, "s1", selected) as members:
        assert members.members == before

    await asyncio.sleep(0.02)  # the clock of a disk ticks every 4 ms
    place.file("f", b"two")
    os.utime(place.session / "f", ns=(1, 1))
    after = await plan(executor)

    assert [member._replace(version=None) for member in after] == [
        member._replace(version=None) for member in before
    ]
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, True, False]
    assert after[0].version == after[2].version != after[1].version


@pytest.fixture
def wide(place: Place) -> Place:
    for number in range(3_000):
        path = place.session / f"d{number // 200:02}" / f"f{number:04}"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    place.file("d03/private").chmod(0o600)
    place.link("d03/to-private", "private")
    place.link("d03/out", "/etc/passwd")
    return place


@pytest.mark.parametrize("name", RESOLVERS)
def test_the_helper_finds_what_a_walk_here_finds(wide: Place, name: str) -> None:
    session = os.open(wide.session, os.O_PATH)
    base = os.open(".", os.O_RDONLY, dir_fd=session)
    helper = Helper(name, None)
    area = Area(session, base, (), 9, for_archive=True)

    here = found(walk_rows(choose(name, None), area, None))
    there = found(helper.walk_rows(area, None))
    helper.close()
    os.close(session)
    os.close(base)

    assert here == there
    assert len([row for row in here if row[-1] is not None]) == 3_002


async def test_a_helper_that_is_killed_is_not_missed(wide: Place) -> None:
    async with running(wide) as executor:
        before = await plan(executor)
        (pid,) = helpers_of(os.getpid())
        os.kill(pid, signal.SIGSTOP)
        task = asyncio.create_task(plan(executor))
        await asyncio.sleep(0.1)
        assert not task.done()
        os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(until, lambda: is_gone(pid))

        assert await task == before


async def test_a_root_that_is_gone_is_an_outage(place: Place, executor: Local) -> None:
    await plan(executor)
    place.root.rename(place.outside / "root")

    assert await refusal(executor.archive("s1", asked())) is Unavailable


CHECK = """
import asyncio, errno, json, sys
from gateway.executors.local.local import Local, LocalConfig
from tests.contract.asking import asked, packed
from tests.seccomp import FACCESSAT2, deny

if sys.argv[3:] and not deny(FACCESSAT2, errno.EPERM):
    sys.exit("no seccomp")

async def main():
    config = LocalConfig(type="local", root=sys.argv[1], resolver=sys.argv[2])
    async with Local.running("local", config) as executor:
        members, skipped = await packed(executor, "s1", asked())
    print(json.dumps([sorted(path.decode() for path in members), skipped]))

asyncio.run(main())
"""


@pytest.mark.parametrize("resolver", RESOLVERS)
@pytest.mark.parametrize("old_profile", [False, True])
def test_what_may_not_be_read_is_left_out_and_counted(
    place: Place, resolver: str, old_profile: bool
) -> None:
    """Row 22: the gateway runs without the capabilities by which root reads everything.

    It also finds out where a seccomp profile forbids to ask for that.
    """
    for name in ("open", "private", "closed", "d/inner", "x/inner"):
        place.file(name)
    place.link("to-closed", "closed")
    place.link("to-private", "private")
    (place.session / "private").chmod(0o600)
    (place.session / "closed").chmod(0)
    (place.session / "d").chmod(0)
    (place.session / "x").chmod(0o444)  # its names may be read, but it may not be entered
    command = [sys.executable, "-c", CHECK, place.root, resolver, *["old"] * old_profile]
    if os.geteuid() == 0:
        powers = "-dac_override,-dac_read_search"
        launcher = (needs.program("setpriv"), f"--bounding-set={powers}", f"--inh-caps={powers}")
        command = [*launcher, *command]

    done = subprocess.run(
        command, cwd=Path(__file__).parents[4], capture_output=True, text=True, check=False
    )
    (place.session / "d").chmod(0o755)
    (place.session / "x").chmod(0o755)

    if "no seccomp" in done.stderr:
        needs.missing("seccomp filters do not work here")
    assert done.returncode == 0, done.stderr
    members, skipped = json.loads(done.stdout)
    assert members == ["open", "private", "to-private", "x"]
    assert skipped == 4


async def test_only_the_open_archive_holds_descriptors(wide: Place, executor: Local) -> None:
    await plan(executor)
    before = len(os.listdir("/proc/self/fd"))

    async with members_of(executor, "s1", asked()) as members:
        assert len(os.listdir("/proc/self/fd")) == before + 1
        async with members.open(members.members[-1]) as stream:
            assert stream.entry.path == WorkspacePath(members.members[-1].parts)

    assert len(os.listdir("/proc/self/fd")) == before


async def test_nothing_of_a_neighbour_is_ever_in_it(place: Place, executor: Local) -> None:
    place.file("f")

    for name in ("s1", "s1-secret"):
        members, _ = await packed(executor, name, asked())
        assert members == {b"f": OUTSIDE if name == "s1-secret" else b"inside"}
