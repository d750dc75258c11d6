"""What a path leads to, by both ways of resolving it: files inside, verdicts for all else."""

import os
import resource
import socket
import subprocess
import sys
import time

import pytest

from gateway.domain.errors import (
    NotADirectory,
    NotAFile,
    NotReadable,
    PathNotFound,
    PathRefused,
    SessionNotFound,
    Unavailable,
)
from gateway.domain.model import Kind
from gateway.domain.paths import WorkspacePath
from gateway.executors.local.local import Local
from gateway.executors.local.root import Root
from gateway.executors.local.walking import walk_batches
from gateway.system.components import Components, device_id, mount_id
from gateway.system.resolver import choose, open_file
from tests import needs
from tests.unit.executors.local.rig import RESOLVERS, Place, content, open_files, outcome, running

LEAVES = (PathRefused, "invalid path: symbolic link leaves the workspace")
MISSING = (PathNotFound, "file not found")
NO_DIRECTORY = (NotADirectory, "not a directory")
NO_FILE = (NotAFile, "not a file")
UNREADABLE = (NotReadable, "file not readable")
INSIDE = b"inside"

# name of the link, its text, the path asked for, what comes of it; `d/e/f`, `d/g` and `top` are
# files. The rows follow Linux' openat2 self-tests ([beneath], [no_xdev] apart), Go's os.Root
# tests and filepath-securejoin's lookup tests.
LINKS = [
    # stays inside
    ("l", "top", "l", INSIDE),
    ("l", "./top", "l", INSIDE),
    ("l", "d/e/f", "l", INSIDE),
    ("l", "d/e/../g", "l", INSIDE),
    ("l", "d/../d/./e//f", "l", INSIDE),
    ("d/l", "../top", "d/l", INSIDE),
    ("d/e/l", "../../top", "d/e/l", INSIDE),
    ("d/e/l", "../../d/e/../../top", "d/e/l", INSIDE),
    ("l", "d", "l/g", INSIDE),
    ("l", "d/", "l/e/f", INSIDE),
    ("l", "d/e/..", "l/g", INSIDE),
    ("l", "d/e/../", "l/g", INSIDE),
    ("l", ".", "l/top", INSIDE),
    ("l", "d/..", "l/top", INSIDE),
    ("d/e/l", "../..", "d/e/l/top", INSIDE),
    ("l", "l2/../top", "l", MISSING),
    # leaves
    ("l", "/etc/passwd", "l", LEAVES),
    ("l", "/nonexistent/file", "l", LEAVES),
    ("l", "/", "l", LEAVES),
    ("l", "//", "l/x", LEAVES),
    ("l", "..", "l", LEAVES),
    ("l", "../", "l/f", LEAVES),
    ("l", "../s1/top", "l", LEAVES),
    ("l", "../s1-secret/f", "l", LEAVES),
    ("l", "../s1-secret/missing", "l", LEAVES),
    ("l", "../s1-secret", "l/f", LEAVES),
    ("l", "../s1-secret", "l/missing/deeper", LEAVES),
    ("l", "../../outside/f", "l", LEAVES),
    ("l", "../../../../../../../../etc/passwd", "l", LEAVES),
    ("l", "d/../../s1/top", "l", LEAVES),
    ("l", "d/e/../../../outside", "l/f", LEAVES),
    ("d/l", "../..", "d/l/s1/top", LEAVES),
    ("d/l", "e/../../..", "d/l", LEAVES),
    ("l", "/proc/self/root", "l/etc/passwd", LEAVES),
    ("l", "/proc/self/cwd", "l", LEAVES),
    ("l", "/proc/self/fd/0", "l", LEAVES),
    # dangles
    ("l", "missing", "l", MISSING),
    ("l", "d/missing/x", "l", MISSING),
    ("l", "missing/../../outside/f", "l", MISSING),
    ("l", "x" * 300, "l", MISSING),
    # of another kind
    ("l", "d", "l", NO_FILE),
    ("l", ".", "l", NO_FILE),
    ("l", "top", "l/x", NO_DIRECTORY),
    ("l", "top/", "l", NO_DIRECTORY),
    ("l", "top/.", "l", NO_DIRECTORY),
    ("l", "top/..", "l", NO_DIRECTORY),
    ("l", "top/../d/g", "l", NO_DIRECTORY),
    # loops
    ("l", "l", "l", LEAVES),
    ("l", "l/x", "l", LEAVES),
    ("l", "./l", "l/top", LEAVES),
    ("l", "d/../l", "l", LEAVES),
]


@pytest.fixture
def tree(place: Place) -> Place:
    place.file("top")
    place.file("d/e/f")
    place.file("d/g")
    return place


@pytest.mark.parametrize(("name", "text", "path", "expected"), LINKS)
async def test_links(
    tree: Place, executor: Local, name: str, text: str, path: str, expected: object
) -> None:
    tree.link(name, text)

    assert [expected] * 2 == [await outcome(executor, path) for _ in ("cold", "cached")]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("top", INSIDE),
        ("d/e/f", INSIDE),
        ("d//e/./f/", INSIDE),
        ("", NO_FILE),
        (".", NO_FILE),
        ("d", NO_FILE),
        ("d/e/", NO_FILE),
        ("missing", MISSING),
        ("d/missing/x", MISSING),
        ("top/x", NO_DIRECTORY),
        ("top/x/y", NO_DIRECTORY),
        ("x" * 255, MISSING),
        ("x" * 256, MISSING),
        ("/".join("x" * 2040), MISSING),
    ],
)
async def test_plain_paths(tree: Place, executor: Local, path: str, expected: object) -> None:
    assert [expected] * 2 == [await outcome(executor, path) for _ in ("cold", "cached")]


@pytest.mark.parametrize(("links", "expected"), [(1, INSIDE), (40, INSIDE), (41, LEAVES)])
async def test_forty_links_are_followed(
    tree: Place, executor: Local, links: int, expected: object
) -> None:
    tree.link("l1", "top")
    for number in range(2, links + 1):
        tree.link(f"l{number}", f"l{number - 1}")

    assert expected == await outcome(executor, f"l{links}")


async def test_two_links_that_lead_to_each_other_are_refused(tree: Place, executor: Local) -> None:
    tree.link("a", "d/b")
    tree.link("d/b", "../a")

    assert await outcome(executor, "a") == LEAVES


async def test_a_chain_of_the_longest_texts_is_refused_soon(tree: Place, executor: Local) -> None:
    for number in range(39):
        tree.link(f"l{number}", "d/../" * 800 + f"l{number + 1}")
    tree.link("l39", "/etc/passwd")
    began = time.process_time()

    assert await outcome(executor, "l0") == LEAVES
    assert time.process_time() - began < 0.1


@pytest.mark.parametrize("text", ["x/" * 600, "x/" * 600 + "../" * 560, "x/../" * 800, "./" * 2000])
async def test_a_link_that_goes_down_and_up_all_the_time_is_refused_soon(
    place: Place, executor: Local, text: str
) -> None:
    """Steps that are taken again to come back up count as well."""
    make_chain(place, 600)
    for number in range(39):
        place.link(f"l{number}", f"{text}{'../' * 31}l{number + 1}"[-4095:])
    place.link("l39", "/etc/passwd")
    began = time.process_time()

    assert await outcome(executor, "l0") in (LEAVES, MISSING)
    assert time.process_time() - began < 0.1


@pytest.mark.parametrize("resolver", RESOLVERS)
@pytest.mark.parametrize("prefix", [None, "/workspace"])
def test_a_directory_of_hostile_links_is_left_soon(
    place: Place, resolver: str, prefix: str | None
) -> None:
    make_chain(place, 600)
    text = "../" + "x/" * 600 + "../" * 600
    place.link("d/end", text + "../etc")
    for number in range(64):
        place.link(f"d/l{number}", text + "d/end")
    root = Root(str(place.root))
    batches = walk_batches(
        choose(resolver, prefix),
        lambda: root.open_session("s1"),
        WorkspacePath((b"d",)),
        depth=1,
        after=None,
        selection=None,
    )

    began = time.process_time()
    entries = next(batches)
    batches.close()

    assert time.process_time() - began < 0.5
    assert all(entry.kind is Kind.SYMLINK for entry in entries)


def make_chain(place: Place, count: int) -> None:
    """At most some 600: pytest removes old directories recursively."""
    above = os.open(place.session, os.O_PATH)
    for _ in range(count):
        os.mkdir(b"x", dir_fd=above)
        fd = os.open(b"x", os.O_PATH, dir_fd=above)
        os.close(above)
        above = fd
    os.close(above)


async def test_links_through_linked_directories_stay_inside(tree: Place, executor: Local) -> None:
    tree.link("one", "d/e")
    tree.link("d/e/two", "../../d")
    tree.link("d/three", "e/two/g")

    assert await outcome(executor, "one/two/three") == INSIDE


async def test_dots_behind_a_link_start_where_the_link_leads(tree: Place, executor: Local) -> None:
    """Taken as text, `in/../g` is `g`; the kernel goes to the parent of `d/e`."""
    tree.link("in", "d/e")
    tree.link("l", "in/../g")

    assert await outcome(executor, "l") == INSIDE


async def test_a_hard_link_is_an_ordinary_file(tree: Place, executor: Local) -> None:
    os.link(tree.session / "top", tree.session / "d" / "hard")

    assert await outcome(executor, "d/hard") == INSIDE


async def test_a_link_text_may_go_down_and_up_further_than_is_kept_open(
    tree: Place, executor: Local
) -> None:
    deep = "/".join("x" * 100)
    (tree.session / deep).mkdir(parents=True)
    tree.link("l", deep + "/.." * 99 + "/../top")
    before = open_files()

    assert await outcome(executor, "l") == INSIDE
    assert open_files() <= before + 1


@pytest.mark.parametrize("resolver", RESOLVERS)
@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("/workspace/top", "l", INSIDE),
        ("/workspace", "l/d/e/f", INSIDE),
        ("//workspace//d/", "l/g", INSIDE),
        ("/workspace/d/../top", "l", INSIDE),
        ("/workspace/missing", "l", MISSING),
        ("/workspace/..", "l", LEAVES),
        ("/workspace/../s1-secret/f", "l", LEAVES),
        ("/workspace-2/top", "l", LEAVES),
        ("/workspac", "l", LEAVES),
        ("/etc/../workspace/top", "l", LEAVES),
        ("/etc/passwd", "l", LEAVES),
    ],
)
async def test_absolute_links_below_the_sandbox_prefix_lead_inside(
    tree: Place, resolver: str, text: str, path: str, expected: object
) -> None:
    tree.link("l", text)
    tree.link("d/up", "../l")

    async with running(tree, resolver, "/workspace") as executor:
        assert expected == await outcome(executor, path)
        assert expected == await outcome(executor, path.replace("l", "d/up", 1))


@pytest.mark.parametrize(
    "session",
    ["missing", "linked", "file", "", ".", "..", "s1/d", "../outside", "x" * 300, "s\0", "\ud800"],
)
async def test_what_is_no_directory_of_the_root_is_no_session(
    tree: Place, executor: Local, session: str
) -> None:
    (tree.root / "linked").symlink_to(tree.session)
    (tree.root / "file").write_bytes(b"")
    expected = SessionNotFound, "session not found"

    assert [expected] * 2 == [await outcome(executor, "top", session) for _ in range(2)]
    with pytest.raises(SessionNotFound):
        async with executor.walk(session, WorkspacePath(), depth=1):
            pass


async def test_fifos_and_sockets_are_answered_at_once(place: Place, executor: Local) -> None:
    place.file("plain")
    os.mkfifo(place.session / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(place.session / "socket"))
        place.link("to-fifo", "fifo")

        for path in ("fifo", "socket", "to-fifo"):
            assert [await outcome(executor, path) for _ in range(2)] == [UNREADABLE] * 2
        assert await outcome(executor, "fifo/x") == NO_DIRECTORY


@pytest.mark.parametrize(("major", "minor"), [(1, 3), (1, 5)])
async def test_devices_are_not_readable(
    place: Place, executor: Local, major: int, minor: int
) -> None:
    needs.root()
    os.mknod(place.session / "device", 0o20666, os.makedev(major, minor))

    assert [await outcome(executor, "device") for _ in range(2)] == [UNREADABLE] * 2


LEASE = """
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, lambda *_: None)
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("held", flush=True)
sys.stdin.read()
"""


async def test_a_held_write_lease_does_not_make_an_open_wait(place: Place, executor: Local) -> None:
    path = place.file("leased")
    place.file("other")
    assert await outcome(executor, "other") == INSIDE
    with subprocess.Popen(
        [sys.executable, "-c", LEASE, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"

        assert await outcome(executor, "leased") == UNREADABLE


async def test_a_path_longer_than_the_kernel_takes_is_opened(place: Place, executor: Local) -> None:
    """A walk lists what lies deeper than PATH_MAX, and an archive opens what a walk lists."""
    parts = (b"n" * 200,) * 30
    above = os.open(place.session, os.O_PATH)
    for part in parts:
        os.mkdir(part, dir_fd=above)
        fd = os.open(part, os.O_PATH, dir_fd=above)
        os.close(above)
        above = fd
    with open(os.open(b"f", os.O_CREAT | os.O_WRONLY, dir_fd=above), "wb") as file:
        file.write(INSIDE)
    os.close(above)

    async with executor.open("s1", WorkspacePath((*parts, b"f"))) as stream:
        assert await stream.read(0, 6) == INSIDE


async def test_the_answer_tells_nothing_about_what_lies_outside(
    place: Place, executor: Local
) -> None:
    place.link("there", "../../outside/f")
    place.link("not-there", "../../outside/missing")

    assert await outcome(executor, "there") == await outcome(executor, "not-there")


def test_mounts_are_told_apart_by_device_where_the_kernel_names_no_mounts(place: Place) -> None:
    place.file("d/f")
    place.link("d/l", "../../s1-secret/f")
    components = Components(None, device_id)
    session = os.open(place.session, os.O_PATH)
    try:
        fd, found = open_file(components, session, (b"d", b"f"))
        os.close(fd)
        with pytest.raises(PathRefused):
            open_file(components, session, (b"d", b"l"))
    finally:
        os.close(session)

    assert found.st_size == len(INSIDE)


def test_two_mounts_have_two_ids() -> None:
    one, other = os.open("/", os.O_PATH), os.open("/proc", os.O_PATH)
    try:
        assert mount_id(one) != mount_id(other)
        assert mount_id(one) == mount_id(one)
    finally:
        os.close(one)
        os.close(other)


async def test_a_thousand_opens_leave_no_file_open(tree: Place, executor: Local) -> None:
    tree.link("out", "../s1-secret/f")
    os.mkfifo(tree.session / "fifo")
    await content(executor, "top")
    before = open_files()

    for _ in range(200):
        for path in ("top", "d/e/f", "out", "missing", "fifo"):
            await outcome(executor, path)

    assert open_files() == before


@pytest.mark.parametrize("room", [0, 1])
def test_a_lack_of_descriptors_is_not_taken_for_an_old_kernel(room: int) -> None:
    """A reload under load must not silently fall back to the weaker way of doing things."""
    lowest = os.open("/", os.O_PATH)
    os.close(lowest)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + room, hard))
    try:
        with pytest.raises(Unavailable, match="cannot be chosen now"):
            choose("auto", None)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
