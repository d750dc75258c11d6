"""The chain: who is asked, what counts as an answer, and how long it takes."""

import asyncio
import time

import pytest

from gateway.domain.errors import (
    AuthRejected,
    Busy,
    CircuitOpen,
    GatewayError,
    NotADirectory,
    NotAFile,
    NotReadable,
    Outage,
    PathNotFound,
    PathRefused,
    ProtocolFault,
    SessionNotFound,
    StreamBroken,
    TimedOut,
    TooLarge,
    Unavailable,
    Unreachable,
    Unsupported,
    WorkspaceGone,
)
from gateway.domain.paths import WorkspacePath
from gateway.executors.base import Executor
from gateway.executors.fallback import Fallback
from tests.unit.executors.scripted import PATH, Scripted

OUTAGES = [
    Unavailable("x"),
    Unreachable("x"),
    Busy("x"),
    CircuitOpen("x"),
    TimedOut("x"),
    ProtocolFault("x"),
    AuthRejected("x"),
    Unsupported("x"),
    WorkspaceGone("x"),
]
AUTHORITATIVE = [
    PathNotFound("x"),
    NotAFile("x"),
    NotADirectory("x"),
    NotReadable("x"),
    PathRefused("x"),
    TooLarge("x"),
]


def kinds_of(kind: type[GatewayError]) -> set[type[GatewayError]]:
    return {kind}.union(*map(kinds_of, kind.__subclasses__()))


def test_every_kind_of_outage_is_tried_below():
    assert {type(outage) for outage in OUTAGES} == kinds_of(Outage) - {Outage}


def name_of(error: Exception) -> str:
    return type(error).__name__


async def answer(executor: Executor) -> tuple[str, str | None]:
    """Who answered, and why not the first."""
    async with executor.open("s1", PATH) as stream:
        assert b"".join([chunk async for chunk in stream.chunks(0, 5)]) == b"hello"
        return stream.source, stream.fallback


def chain(*executors: Scripted, deadline_s: float = 1.0) -> Fallback:
    return Fallback(executors, deadline_s)


async def test_the_first_answers_if_it_can():
    second = Scripted("b")

    assert await answer(chain(Scripted("a"), second)) == ("a", None)
    assert second.calls == 0


@pytest.mark.parametrize("outage", OUTAGES, ids=name_of)
async def test_the_next_answers_when_one_gives_no_answer(outage):
    assert await answer(chain(Scripted("a", outage), Scripted("b"))) == ("b", outage.code)


@pytest.mark.parametrize("outage", OUTAGES, ids=name_of)
async def test_so_it_is_with_a_listing(outage):
    executor = chain(Scripted("a", outage), Scripted("b"))

    async with executor.walk("s1", WorkspacePath.ROOT, depth=1) as walk:
        assert (walk.source, walk.fallback) == ("b", outage.code)


@pytest.mark.parametrize("verdict", AUTHORITATIVE, ids=name_of)
async def test_what_is_authoritative_never_falls_back(verdict):
    second = Scripted("b")

    with pytest.raises(type(verdict)):
        await answer(chain(Scripted("a", verdict), second))

    assert second.calls == 0


@pytest.mark.parametrize("verdict", AUTHORITATIVE, ids=name_of)
async def test_a_verdict_of_the_fallback_is_the_answer(verdict):
    with pytest.raises(type(verdict)) as caught:
        await answer(chain(Scripted("a", TimedOut("x")), Scripted("b", verdict)))

    assert (caught.value.source, caught.value.fallback) == ("b", "timeout")


async def test_a_verdict_of_the_first_is_told_as_its():
    with pytest.raises(PathNotFound) as caught:
        await answer(chain(Scripted("a", PathNotFound("x")), Scripted("b")))

    assert (caught.value.source, caught.value.fallback) == ("a", None)


async def test_the_reason_told_is_the_first_ones():
    executor = chain(Scripted("a", TimedOut("x")), Scripted("b", Unreachable("x")), Scripted("c"))

    assert await answer(executor) == ("c", "timeout")


@pytest.mark.parametrize("first", OUTAGES[:-1], ids=name_of)
@pytest.mark.parametrize("second", [*OUTAGES, SessionNotFound("x")], ids=name_of)
async def test_if_nobody_answers_that_is_an_outage(first, second):
    with pytest.raises(Outage) as caught:
        await answer(chain(Scripted("a", first), Scripted("b", second)))

    assert not isinstance(caught.value, WorkspaceGone)


@pytest.mark.parametrize("first", [WorkspaceGone("x"), SessionNotFound("x")], ids=name_of)
@pytest.mark.parametrize("second", [WorkspaceGone("x"), SessionNotFound("x")], ids=name_of)
async def test_if_nobody_has_the_session_there_is_none(first, second):
    with pytest.raises(SessionNotFound):
        await answer(chain(Scripted("a", first), Scripted("b", second)))


async def test_the_last_keeps_its_share_of_the_time():
    began = time.monotonic()
    executor = chain(Scripted("a", 9.0), Scripted("b", 0.25), deadline_s=2)

    assert await answer(executor) == ("b", "timeout")
    assert time.monotonic() - began < 2


async def test_all_together_keep_the_deadline():
    began = time.monotonic()

    with pytest.raises(Unavailable):
        await answer(chain(Scripted("a", 9.0), Scripted("b", 9.0), deadline_s=0.2))

    assert 0.15 < time.monotonic() - began < 2


async def test_after_the_first_byte_nobody_else_is_asked():
    second = Scripted("b")
    executor = chain(Scripted("a", pieces=[b"he", StreamBroken("cut")]), second)

    with pytest.raises(StreamBroken):
        await answer(executor)

    assert second.calls == 0


async def test_everything_is_left_whoever_answers():
    first, second = Scripted("a", Unavailable("x")), Scripted("b")

    await answer(chain(first, second))

    assert (first.open_now, second.open_now) == (0, 0)


async def test_a_cancelled_call_leaves_nothing_open():
    first = Scripted("a", 9.0)
    call = asyncio.ensure_future(answer(chain(first, Scripted("b"))))
    await asyncio.sleep(0.02)
    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call

    assert first.open_now == 0


async def test_it_is_ready_if_one_of_them_is():
    health = await chain(Scripted("a"), Scripted("b")).probe()

    assert health.ready
    assert set(health.details) == {"a", "b"}
