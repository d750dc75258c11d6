"""What Shannon's executor does, quirk by quirk, and what is made of it."""

import asyncio
import os

import pytest

from gateway.domain.errors import (
    Busy,
    NotADirectory,
    NotAFile,
    PathNotFound,
    PathRefused,
    TimedOut,
    TooLarge,
    Unavailable,
    Unsupported,
    WorkspaceGone,
)
from gateway.domain.model import Kind
from tests.gateways import plant
from tests.ports import free_port
from tests.unit.executors.firecracker.rig import (
    at,
    content,
    entries,
    facing,
    firecracker,
    names,
)

DOWNLOAD, EXECUTE = "/workspace/download", "/execute"


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 98_304, 3_000_001], ids=str)
async def test_a_file_comes_byte_by_byte(executor, sessions, size):
    data = os.urandom(size)
    plant(sessions / "s1", {"out/data.bin": data})

    assert await content(executor, "out/data.bin") == data


async def test_an_open_file_has_its_exact_size_and_cheap_parts(executor, sessions):
    data = os.urandom(700_000)
    plant(sessions / "s1", {"data.bin": data})

    async with executor.open("s1", at("data.bin")) as stream:
        assert (stream.entry.size, stream.entry.kind) == (len(data), Kind.FILE)
        assert await stream.read(600_000, 1000) == data[600_000:601_000]
        assert await stream.read(0, 10) == data[:10]
        assert os.pread(stream.descriptor, 10, 20) == data[20:30]


async def test_a_file_takes_one_call(executor, shannon):
    await content(executor, "a.txt")

    assert shannon.calls == [DOWNLOAD]


@pytest.mark.parametrize("noise", ["warning: slow clock\n", "7 of ", "99"])
async def test_the_size_it_tells_is_not_asked(executor, shannon, noise):
    """It is read from standard error: whatever else is written there makes it null, or wrong."""
    shannon.noise = noise

    assert await content(executor, "a.txt") == b"hello"


@pytest.mark.parametrize(
    ("path", "verdict"),
    [
        ("nothing", PathNotFound),
        ("sub/nothing", PathNotFound),
        ("nothing/at/all", PathNotFound),
        ("dangling", PathNotFound),
        ("loop", PathRefused),
        ("sub", NotAFile),
        ("", NotAFile),
        ("a.txt/below", NotADirectory),
        ("a.txt/far/below", NotADirectory),
        ("outside", PathRefused),
    ],
)
async def test_a_404_is_told_apart_with_one_more_call(executor, sessions, shannon, path, verdict):
    links = {"dangling": "nowhere", "loop": "loop", "outside": "../s2", "sub/x": b""}
    plant(sessions / "s1", links)

    with pytest.raises(verdict):
        await content(executor, path)

    assert shannon.calls == [DOWNLOAD, EXECUTE]


@pytest.mark.parametrize(
    ("path", "verdict"),
    [
        ("nothing", PathNotFound),
        ("a.txt", NotADirectory),
        ("a.txt/below", NotADirectory),
        ("pipe", NotADirectory),
    ],
)
@pytest.mark.parametrize("depth", [1, 9])
async def test_what_is_no_directory_is_told_apart(
    executor, sessions, shannon, path, verdict, depth
):
    os.mkfifo(sessions / "s1" / "pipe")

    with pytest.raises(verdict):
        await names(executor, path, depth=depth)

    assert shannon.calls == [EXECUTE]


@pytest.mark.parametrize("path", ["", "a", "a/b"])
@pytest.mark.parametrize("depth", [1, 9])
async def test_a_workspace_that_never_was_is_gone(executor, path, depth):
    """The executor makes an empty file system for any session, so an empty one says nothing."""
    with pytest.raises(WorkspaceGone):
        await names(executor, path, workspace="never", depth=depth)
    with pytest.raises(WorkspaceGone):
        await content(executor, path, workspace="never")


@pytest.mark.parametrize("path", [b"a..b", b"x/..y/z", b"...", b"not-\xff-utf8"])
async def test_a_path_it_does_not_take_is_never_asked_for(executor, shannon, path):
    """Unsupported is no answer, so the fallback gives one."""
    with pytest.raises(Unsupported):
        await content(executor, path)
    for depth in (1, 9):
        with pytest.raises(Unsupported):
            await names(executor, path, depth=depth)

    assert shannon.calls == []


async def test_a_directory_is_listed_with_one_call_and_its_times(executor, sessions, shannon):
    """Which `/workspace/list` does not tell."""
    plant(sessions / "s1", {"sub/x": b"", "b.bin": bytes(7)})
    for name, ns in (("a.txt", 1), ("b.bin", 2), ("sub", 3)):
        os.utime(sessions / "s1" / name, ns=(0, ns))

    found = await entries(executor)

    assert [(e.path.relative, e.kind, e.size, e.mtime_ns) for e in found] == [
        ("a.txt", Kind.FILE, 5, 1),
        ("b.bin", Kind.FILE, 7, 2),
        ("sub", Kind.DIRECTORY, 0, 3),
    ]
    assert shannon.calls == [EXECUTE]


async def test_a_listing_goes_on_behind_a_path(executor, sessions):
    plant(sessions / "s1", {"b": b"", "c/d": b"", "e": b""})

    assert await names(executor, after=at("b")) == ["c", "e"]


@pytest.mark.parametrize("name", ["with space", "ünï", "😀", "%25#?&", "a\\b", "-n", "\n", "'\"$("])
async def test_any_utf8_name_is_listed_and_fetched(executor, sessions, name):
    plant(sessions / "s1", {name: b"x"})

    assert at(name) in [entry.path for entry in await entries(executor)]
    assert await content(executor, name) == b"x"


async def test_dangling_links_are_not_listed(executor, sessions):
    plant(sessions / "s1", {"dangling": "nowhere", "good": "a.txt"})

    assert await names(executor) == await names(executor, depth=9) == ["a.txt", "good"]


@pytest.mark.parametrize("depth", [1, 2])
async def test_an_agents_own_json_py_does_not_answer(executor, sessions, depth):
    """`python3 -c` finds the modules of its directory first."""
    own = dict.fromkeys(("json.py", "base64.py", "stat.py", "binascii.py"), b"raise SystemExit(1)")
    plant(sessions / "s1", own)

    assert await names(executor, depth=depth) == sorted(["a.txt", *own])


@pytest.mark.parametrize("depth", [1, 2])
async def test_no_machine_is_unavailable(executor, shannon, depth):
    shannon.machines = 0

    with pytest.raises(Unavailable):
        await content(executor, "a.txt")
    with pytest.raises(Unavailable):
        await names(executor, depth=depth)


async def test_a_machine_that_does_not_answer_in_time_is_unavailable(executor, shannon):
    shannon.patience_s = 0

    with pytest.raises(Unavailable):
        await content(executor, "a.txt")
    with pytest.raises(Unavailable):
        await names(executor, depth=2)


async def test_a_pipe_hangs_there_and_is_unavailable(executor, sessions, shannon):
    shannon.patience_s = 0.5
    os.mkfifo(sessions / "s1" / "pipe")

    with pytest.raises(Unavailable):
        await content(executor, "pipe")


async def test_a_slow_boot_is_waited_for_and_can_be_left(executor, shannon):
    shannon.boot_s = 0.3
    assert await content(executor, "a.txt") == b"hello"

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await content(executor, "a.txt")


async def test_a_session_is_never_asked_twice_at_once(executor, sessions, shannon):
    plant(sessions / "s1", {f"d{n}/f": b"" for n in range(5)})

    await names(executor, depth=9)
    await names(executor)
    await content(executor, "a.txt")
    with pytest.raises(PathNotFound):
        await content(executor, "nothing")

    assert shannon.at_once == {"s1": 1}


async def test_a_file_over_the_cap_is_too_large(shannon, sessions):
    """In the words of Shannon's documentation."""
    plant(sessions / "s1", {"at": bytes(1024), "over": bytes(1025)})

    async with firecracker(shannon.url, max_file=1024) as executor:
        assert await content(executor, "at") == bytes(1024)
        with pytest.raises(TooLarge, match=r"^file exceeds maximum size limit \(1KB\)$"):
            await content(executor, "over")


async def test_files_that_are_being_read_take_no_more_room_than_they_may(shannon, sessions):
    """Slow readers keep their files, and no slot."""
    plant(sessions / "s1", {"six": bytes(6)})

    async with firecracker(shannon.url, spool=15) as executor:
        async with executor.open("s1", at("six")), executor.open("s1", at("six")):
            for _ in range(2):
                with pytest.raises(Busy):
                    await content(executor, "six")
        assert await content(executor, "six") == bytes(6)


async def test_nothing_stays_open(executor, sessions):
    plant(sessions / "s1", {"data.bin": bytes(2_000_000)})
    await content(executor, "data.bin")
    before = len(os.listdir("/proc/self/fd"))

    for _ in range(5):
        async with executor.open("s1", at("data.bin")) as stream:
            await anext(stream.chunks(0, 100))
        with pytest.raises(PathNotFound):
            await content(executor, "nothing")

    assert len(os.listdir("/proc/self/fd")) <= before


async def test_health_tells_how_many_machines_are_in_use(executor):
    health = await executor.probe()

    assert health.ready
    assert health.details == {"machines": "0 of 20"}


@pytest.mark.parametrize("answer", [b'{"status":"ill","pool_size":0,"max_count":1}', b"{}", b"x"])
async def test_an_ill_executor_is_not_ready(answer):
    async with facing({"/health": answer}) as executor:
        assert not (await executor.probe()).ready


async def test_an_executor_that_is_not_there_is_unavailable():
    async with firecracker(f"http://127.0.0.1:{free_port()}") as executor:
        assert not (await executor.probe()).ready
        with pytest.raises((Unavailable, TimedOut)):
            await content(executor, "a.txt")


@pytest.mark.parametrize("directory", ["mnt/sessions", "", "/mnt/../etc", "/mnt/\0"])
def test_the_directory_of_the_workspaces_is_absolute(directory):
    with pytest.raises(ValueError, match="must be an absolute path"):
        firecracker("http://localhost", workspaces=directory)
