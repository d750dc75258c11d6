"""Archives through the guard and the chain: whose slots and deadlines count, and whose verdicts."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gateway.domain.archives import ArchiveBounds
from gateway.domain.errors import (
    Busy,
    GatewayError,
    PathNotFound,
    ProtocolFault,
    SessionNotFound,
    StreamBroken,
    TimedOut,
    TooLarge,
    Unavailable,
    Unsupported,
)
from gateway.domain.model import Entry, Kind
from gateway.domain.paths import WorkspacePath
from gateway.executors.base import Archives, Executor
from gateway.executors.circuit import State
from gateway.executors.fallback import Fallback
from gateway.executors.streams import ArchiveStream, Members, Selection
from tests.contract.asking import asked, members_of, packed, refusal
from tests.unit.executors.scripted import PATH, Archive, Scripted
from tests.unit.executors.test_guarded import guarded

ENTRY = Entry(PATH, Kind.FILE, 5, 0, 0o644)
CONTENT = ({b"a.txt": b"hello"}, 3)


def one_by_one(*steps: Any, **more: Any) -> Scripted:
    return Scripted("x", *steps, batches=[[ENTRY]], **more)


def at_once(*steps: Any, **more: Any) -> Scripted:
    return Scripted("x", *steps, archives=Archives.MEMBERS, **more)


def whole(archive: ArchiveStream, *steps: Any) -> Scripted:
    return Scripted("x", *steps, archives=Archives.WHOLE, archive=archive)


async def refused(executor: Executor) -> type[GatewayError]:
    return await refusal(executor.archive("s1", asked()))


async def test_what_is_walked_is_so_by_guarded_calls() -> None:
    """Each has a slot only as long as it lasts."""
    inner = one_by_one()
    guard = guarded(inner, concurrency=1)

    assert await packed(guard, "s1", asked()) == ({b"a.txt": b"hello"}, 0)
    assert (inner.calls, inner.most_open) == (2, 1)


async def test_what_comes_at_once_is_one_call() -> None:
    """Its members are had when it is entered, so that it keeps no slot while they are read."""
    inner = at_once(per_workspace=1)
    guard = guarded(inner, concurrency=1)

    async with members_of(guard, "s1", asked()) as members:
        assert (members.source, members.skipped.count) == ("x", 3)
        assert await packed(guard, "s1", asked()) == CONTENT
        async with members.open(members.members[0]), guard.open("s1", PATH):
            assert inner.open_now == 3

    assert inner.open_now == 0


async def test_a_large_workspace_may_take_longer_than_a_first_byte() -> None:
    assert await packed(guarded(at_once(0.3), first_byte=0.1), "s1", asked()) == CONTENT
    guard = guarded(at_once(5.0), first_byte=0.1, total=0.2)
    assert await refused(guard) is TimedOut
    assert guard.slots._all._value == 9


async def test_the_turn_of_an_archive_comes_in_the_time_of_any_call() -> None:
    inner = at_once()
    guard = guarded(inner, concurrency=1, first_byte=0.1)

    async with guard.open("s1", PATH):
        assert await refused(guard) is Busy

    assert inner.calls == 1


async def test_a_body_that_hangs_is_given_up() -> None:
    guard = guarded(at_once(None, 5.0), first_byte=0.1)

    async with members_of(guard, "s1", asked()) as members:
        assert await refusal(members.open(members.members[0])) is TimedOut


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (PathNotFound("no"), PathNotFound),
        (TooLarge("large"), TooLarge),
        (StreamBroken("early"), ProtocolFault),
        (ValueError("secret"), ProtocolFault),
    ],
)
async def test_only_verdicts_come_out(error: Exception, verdict: type[GatewayError]) -> None:
    assert await refused(guarded(at_once(error))) is verdict
    async with members_of(guarded(at_once(None, error)), "s1", asked()) as members:
        assert await refusal(members.open(members.members[0])) is verdict
    async with guarded(whole(Archive("x", [], error))).archive("s1", asked()) as archive:
        assert isinstance(archive, ArchiveStream)
        with pytest.raises(verdict):
            await archive.prepare(whole=False)


async def test_a_body_that_is_cut_short_is_not_given() -> None:
    guard = guarded(at_once(pieces=[b"hel"]))

    async with members_of(guard, "s1", asked()) as members:
        assert await refusal(members.open(members.members[0])) is ProtocolFault


async def test_an_executor_that_makes_no_archives_is_not_asked_for_one() -> None:
    inner = Scripted("x", archives=Archives.REFUSED)

    assert await refused(guarded(inner)) is Unsupported
    assert inner.calls == 0


async def test_a_whole_archive_is_known_when_it_was_prepared() -> None:
    guard = guarded(whole(Archive("x", [b"ar", b"chive"], 0.3)), first_byte=0.1)

    async with guard.archive("s1", asked()) as archive:
        assert isinstance(archive, ArchiveStream)
        assert (archive.entry.size, archive.entries) == (None, None)
        await archive.prepare(whole=True)
        assert (archive.entry.size, archive.entry.version) == (7, "v1")
        assert (archive.entries, archive.uncompressed, archive.skipped) == (1, 2, 3)
        assert b"".join([chunk async for chunk in archive.chunks(0, 7)]) == b"archive"
        assert await archive.read(0, 2) == b"ar"


@pytest.mark.parametrize(
    "pieces", [[b"ar"], [b"archive", b"!"], [b"ar", 5.0], [b"ar", ValueError("secret")]]
)
async def test_a_whole_archive_is_complete_or_broken(pieces: list[Any]) -> None:
    async with guarded(whole(Archive("x", pieces)), idle=0.2).archive("s1", asked()) as archive:
        assert isinstance(archive, ArchiveStream)
        await archive.prepare(whole=False)
        with pytest.raises(StreamBroken):
            _ = [chunk async for chunk in archive.chunks(0, 7)]


async def test_a_whole_archive_that_is_larger_than_what_it_holds_may_be_is_a_fault() -> None:
    """Whether its length is told, or found out."""
    wanted = asked(bounds=ArchiveBounds(entries=1, bytes=1000, file=1000, depth=1))
    guard = guarded(whole(Archive("x", [bytes(10_000)] * 4)))

    async with guard.archive("s1", wanted) as archive:
        assert isinstance(archive, ArchiveStream)
        with pytest.raises(ProtocolFault):
            await archive.prepare(whole=True)
        with pytest.raises(StreamBroken):
            _ = [chunk async for chunk in archive.chunks(0, None)]


async def test_a_whole_archive_that_is_not_begun_in_time_is_an_outage() -> None:
    guard = guarded(whole(Archive("x", [b"archive"]), 5.0), first_byte=0.1)

    assert await refused(guard) is TimedOut


class Searched:
    """Notes which executors are searched, each by a call of its own."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.packed = replace(asked(), search=self.search)

    async def search(self, executor: Executor, workspace: str) -> Selection:
        self.names.append(executor.name)
        async with executor.walk(workspace, WorkspacePath.ROOT, depth=9):
            return Nothing()


class Nothing:
    def excludes(self, path: WorkspacePath, is_directory: bool) -> bool:
        return True

    def lists(self, path: WorkspacePath, is_directory: bool) -> bool:
        return True


@pytest.mark.parametrize("kind", [at_once, one_by_one])
async def test_who_walks_is_searched_before(kind: Any) -> None:
    """Not meanwhile: a workspace may bear no more than one call."""
    searched = Searched()
    inner = kind(per_workspace=1)

    async with guarded(inner).archive("s1", searched.packed):
        pass

    assert searched.names == ["x"]
    assert (inner.calls, inner.most_open) == (2, 1)


async def test_who_makes_archives_is_not_searched() -> None:
    """But the next in its chain is, if it comes to that."""
    searched = Searched()
    last = guarded(at_once())

    async with guarded(whole(Archive("x", [b"archive"]))).archive("s1", searched.packed):
        assert searched.names == []
    first = guarded(whole(Archive("x", []), Unsupported("no")))
    async with Fallback([first, last], 1).archive("s1", searched.packed) as archive:
        assert isinstance(archive, Members)
    assert searched.names == ["x"]


async def test_who_makes_no_archives_is_not_searched() -> None:
    searched = Searched()

    inner = Scripted("x", archives=Archives.REFUSED)
    assert await refusal(guarded(inner).archive("s1", searched.packed)) is Unsupported
    assert (searched.names, inner.calls) == ([], 0)


async def test_a_large_workspace_is_no_failure_of_the_backend() -> None:
    """When the time of the chain is up, another may be asked; the circuit stays as it is."""
    guard = guarded(at_once(*[5.0] * 9), connect=0.01)
    chain = Fallback([guard, at_once()], 0.2)

    for number in range(6):
        async with members_of(chain, f"s{number}", asked()) as members:
            assert members.fallback == "timeout"

    assert guard.circuit.state is State.CLOSED


async def test_the_time_to_collect_begins_behind_the_wait_for_a_slot() -> None:
    guard = guarded(at_once(0.4), concurrency=1, total=1.5)
    await guard.slots.acquire("held")
    asyncio.get_running_loop().call_later(1.4, guard.slots.release, "held")

    async with members_of(guard, "s1", asked()) as members:
        assert members.fallback is None


@pytest.mark.parametrize(
    "error", [Unavailable("down"), SessionNotFound("not here"), Unsupported("cannot")]
)
@pytest.mark.parametrize("first", [at_once, one_by_one])
async def test_the_next_is_asked_when_one_gives_no_archive(first: Any, error: Exception) -> None:
    last = at_once()
    chain = Fallback([first(error), last], 1)

    async with members_of(chain, "s1", asked()) as members:
        assert members.fallback is not None
        assert isinstance(members, Members)
    assert last.calls == 1


async def test_a_walk_that_breaks_lets_the_next_be_asked() -> None:
    entries = [ENTRY._replace(path=PATH.child(b"%03d" % number)) for number in range(300)]
    broken = guarded(Scripted("broken", batches=[entries, StreamBroken("cut")]))
    chain = Fallback([broken, at_once()], 5)

    async with members_of(chain, "s1", asked()) as members:
        assert members.fallback == "protocol"


async def test_what_is_too_large_is_an_answer() -> None:
    last = at_once()

    assert await refused(Fallback([at_once(TooLarge("large")), last], 1)) is TooLarge
    assert last.calls == 0


async def test_nobody_else_is_asked_for_a_body() -> None:
    """Its bytes would not be those of the plan."""
    last = at_once()
    chain = Fallback([at_once(None, Unavailable("down")), last], 1)

    async with members_of(chain, "s1", asked()) as members:
        assert members.fallback is None
        assert await refusal(members.open(members.members[0])) is Unavailable
    assert last.calls == 0


async def test_an_archive_that_is_cancelled_gives_its_slot_back() -> None:
    inner = at_once(5.0)
    guard = guarded(inner, concurrency=1)
    task = asyncio.create_task(refused(guard))
    await asyncio.sleep(0.05)

    task.cancel()
    await asyncio.wait({task})

    assert await packed(guard, "s1", asked()) == CONTENT
    assert inner.open_now == 0
