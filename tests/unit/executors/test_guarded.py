"""The guard: deadlines, slots, retries, and what may come out of an executor."""

import asyncio
import contextlib
import time
from typing import Any

import pytest
from prometheus_client import REGISTRY

from gateway.config.model import ExecutorConfig, Timeouts
from gateway.domain.errors import (
    AuthRejected,
    Busy,
    CircuitOpen,
    GatewayError,
    Outage,
    PathNotFound,
    ProtocolFault,
    SessionNotFound,
    StreamBroken,
    TimedOut,
    Unavailable,
    Unreachable,
    Unsupported,
    WorkspaceGone,
)
from gateway.domain.model import Entry, Kind
from gateway.domain.paths import WorkspacePath
from gateway.executors.base import Executor, Health
from gateway.executors.circuit import OPEN_S, Circuit, State
from gateway.executors.fallback import Fallback
from gateway.executors.guarded import Guarded
from gateway.executors.streams import Wanted
from tests.unit.executors.scripted import PATH, Scripted, Step

ENTRY = Entry(PATH, Kind.FILE, 5, 0, 0o644)


def guarded(
    inner: Scripted, *, concurrency: int = 9, most: int = 100, **timeouts: float
) -> Guarded:
    limits = {"connect": 1.0, "first_byte": 5.0, "idle": 5.0, "total": 5.0, **timeouts}
    config = ExecutorConfig.model_construct(
        type="scripted", concurrency=concurrency, timeout=Timeouts.model_construct(**limits)
    )
    return Guarded(inner, config, most)


async def content(guard: Executor, workspace: str = "s1", count: int | None = 5) -> bytes:
    async with guard.open(workspace, PATH) as stream:
        return b"".join([chunk async for chunk in stream.chunks(0, count)])


async def test_what_an_executor_gives_passes_through():
    guard = guarded(Scripted("x", batches=[[ENTRY], [ENTRY]]))

    assert await content(guard) == b"hello"
    async with guard.open("s1", PATH) as stream:
        assert await stream.read(0, 5) == b"hello"
        assert (stream.source, stream.fallback) == ("x", None)
    async with guard.walk("s1", WorkspacePath.ROOT, depth=1) as walk:
        assert [batch async for batch in walk] == [[ENTRY], [ENTRY]]


@pytest.mark.parametrize(
    "error",
    [
        PathNotFound("path not found"),
        SessionNotFound("session not found"),
        WorkspaceGone("gone"),
        AuthRejected("no"),
        Unsupported("no"),
        ProtocolFault("what?"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_verdict_passes_through_after_one_call(error):
    inner = Scripted("x", error)

    with pytest.raises(type(error)):
        await content(guarded(inner))

    assert inner.calls == 1
    assert inner.open_now == 0


@pytest.mark.parametrize(
    "error",
    [
        ValueError("secret"),
        KeyError("x"),
        ConnectionResetError(),
        RecursionError(),
        StreamBroken("early"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_anything_else_is_a_fault_of_the_executor(error):
    with pytest.raises(ProtocolFault) as caught:
        await content(guarded(Scripted("x", error)))

    assert "secret" not in caught.value.message


@pytest.mark.parametrize("error", [Unavailable("503"), Unreachable("refused")])
async def test_an_unavailable_backend_is_asked_once_more(error):
    inner = Scripted("x", error)

    assert await content(guarded(inner)) == b"hello"
    assert inner.calls == 2


async def test_one_that_is_busy_is_not():
    inner = Scripted("x", Busy("full"))

    with pytest.raises(Busy):
        await content(guarded(inner))

    assert inner.calls == 1


async def test_and_not_twice_more():
    inner = Scripted("x", Unavailable("503"), Unavailable("503"))

    with pytest.raises(Unavailable):
        await content(guarded(inner))

    assert inner.calls == 2


async def test_retries_stay_within_a_budget():
    inner = Scripted("x", *[Unavailable("503")] * 1000)
    guard = guarded(inner)

    for _ in range(100):
        guard.circuit.answered()  # else it would not be asked so often
        with pytest.raises(Unavailable):
            await content(guard)

    assert 100 + 10 <= inner.calls <= 100 + 20


async def test_an_answer_that_does_not_begin_is_a_timeout():
    began = time.monotonic()

    with pytest.raises(TimedOut):
        await content(guarded(Scripted("x", 5.0), first_byte=0.2))

    assert time.monotonic() - began < 1


async def test_a_timeout_that_the_executor_raises_is_one():
    with pytest.raises(TimedOut):
        await content(guarded(Scripted("x", TimeoutError())))


LARGE = 300_000
HEAD = bytes(4096)  # what of a large file has come when entering ends


async def test_a_stream_that_falls_silent_is_broken():
    inner = Scripted("x", pieces=[HEAD, 5.0, b"llo"], size=LARGE)

    with pytest.raises(StreamBroken):
        await content(guarded(inner, idle=0.2), count=LARGE)

    assert inner.open_now == 0


async def test_a_stream_that_drips_for_ever_is_broken_at_the_end_of_its_time():
    inner = Scripted("x", pieces=[HEAD, *[b"x", 0.05] * 100], size=LARGE)
    began = time.monotonic()

    with pytest.raises(StreamBroken):
        await content(guarded(inner, total=0.3), count=LARGE)

    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("pieces", "count"),
    [
        ([HEAD], LARGE),
        ([bytes(LARGE + 1)], LARGE),
        ([HEAD, ValueError("x")], LARGE),
        ([HEAD, b"x"], None),
    ],
    ids=["short", "long", "fails", "over the limit"],
)
async def test_a_body_that_is_not_as_promised_is_broken(pieces, count):
    with pytest.raises(StreamBroken):
        await content(guarded(Scripted("x", pieces=pieces, size=LARGE), most=4096), count=count)


@pytest.mark.parametrize(
    ("pieces", "code"),
    [
        ([b"hell"], "protocol"),
        ([b"he", StreamBroken("reset"), b"llo"], "protocol"),
        ([b"he", ValueError("x"), b"llo"], "protocol"),
        ([b"he", Unavailable("gone"), b"llo"], "unavailable"),
    ],
    ids=["short", "broken", "fails", "outage"],
)
async def test_a_small_file_comes_whole_or_another_executor_can_be_asked(pieces, code):
    inner = Scripted("x", pieces=pieces)

    with pytest.raises(Outage) as caught:
        await content(guarded(inner))

    assert caught.value.code == code
    assert inner.open_now == 0


async def test_a_small_file_that_falls_silent_is_a_timeout():
    inner = Scripted("x", pieces=[b"he", 5.0, b"llo"])

    with pytest.raises(TimedOut):
        await content(guarded(inner, first_byte=0.2))

    assert inner.open_now == 0


@pytest.mark.parametrize("before", [[], [[ENTRY]]], ids=["nothing", "a batch"])
async def test_a_short_listing_comes_whole_or_another_executor_can_be_asked(before):
    guard = guarded(Scripted("x", batches=[*before, StreamBroken("reset"), [ENTRY]]))

    with pytest.raises(ProtocolFault):
        async with guard.walk("s1", WorkspacePath.ROOT, depth=1):
            pass


async def test_nothing_is_read_of_a_version_that_is_had_already():
    """The backend answered 304; to read would be to ask again, for all of it."""
    inner = Scripted("x", pieces=[ValueError("asked again")])
    inner.stream.entry = ENTRY._replace(version="v1")

    async with guarded(inner).open("s1", PATH, Wanted(unless="v1")) as stream:
        assert stream.entry.version == "v1"


async def test_a_body_of_unknown_length_may_reach_the_limit():
    inner = Scripted("x", pieces=[b"x" * 100], size=None)

    assert await content(guarded(inner), count=None) == b"x" * 100


MANY = [ENTRY] * 256  # of a listing, what has come when entering ends


@pytest.mark.parametrize("step", [5.0, ValueError("x")], ids=["silent", "fails"])
async def test_a_walk_that_stops_halfway_is_broken(step):
    guard = guarded(Scripted("x", batches=[MANY, step]), idle=0.2)

    async with guard.walk("s1", WorkspacePath.ROOT, depth=1) as walk:
        batches = aiter(walk)
        assert await anext(batches) == MANY
        with pytest.raises(StreamBroken):
            await anext(batches)


async def test_a_walk_may_end_in_an_outage():
    guard = guarded(Scripted("x", batches=[MANY, Unavailable("gone")]))

    with pytest.raises(Unavailable):
        async with guard.walk("s1", WorkspacePath.ROOT, depth=1) as walk:
            [batch async for batch in walk]


async def test_a_slow_walk_begins_before_it_is_whole():
    entered = asyncio.Event()
    batches = [[ENTRY], 0.8, [ENTRY], entered.wait, [ENTRY]]
    guard = guarded(Scripted("x", batches=batches), first_byte=3.0)

    async with guard.walk("s1", WorkspacePath.ROOT, depth=1) as walk:
        entered.set()
        assert [batch async for batch in walk] == [[ENTRY]] * 3


async def test_a_call_holds_its_slot_until_it_is_left():
    guard = guarded(Scripted("x"), concurrency=1, first_byte=0.2)

    async with guard.open("s1", PATH):
        with pytest.raises(Busy):
            await content(guard, "s2")

    assert await content(guard, "s2") == b"hello"


async def test_a_stream_whose_backend_is_done_frees_its_slot_at_once():
    inner = Scripted("x", complete=True)
    guard = guarded(inner, concurrency=1)

    async with guard.open("s1", PATH):
        assert await content(guard, "s1") == b"hello"

    assert await content(guard, "s1") == b"hello"


async def test_a_walk_that_is_there_whole_frees_its_slot_at_once():
    guard = guarded(Scripted("x", batches=[[ENTRY]], complete=True), concurrency=1)

    async with guard.walk("s1", WorkspacePath.ROOT, depth=1) as walk:
        assert await content(guard, "s1") == b"hello"
        assert [batch async for batch in walk] == [[ENTRY]]

    assert await content(guard, "s1") == b"hello"


async def test_calls_for_one_workspace_are_as_few_as_it_bears():
    inner = Scripted("x", *[0.01] * 6, per_workspace=1)
    guard = guarded(inner)

    await asyncio.gather(*(content(guard, "s1") for _ in range(6)))

    assert inner.most_open == 1


async def test_a_call_that_is_cancelled_frees_its_slot():
    guard = guarded(Scripted("x", 5.0), concurrency=1)
    call = asyncio.ensure_future(content(guard))
    await asyncio.sleep(0.02)
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await call

    assert await content(guard) == b"hello"


async def test_an_executor_that_keeps_failing_is_left_alone():
    inner = Scripted("x", *[Unreachable("refused")] * 100)
    guard = guarded(inner)
    for _ in range(5):
        with pytest.raises(Unreachable):
            await content(guard)
    before = inner.calls

    with pytest.raises(CircuitOpen):
        await content(guard)

    assert inner.calls == before
    assert guard.circuit.state is State.OPEN
    assert (await guard.probe()).details["circuit"] == "open"


async def test_a_probe_that_fails_in_an_unexpected_way_is_of_an_executor_that_is_not_ready():
    """Others can still answer, and readiness tells of all of them."""

    class Odd(Scripted):
        async def probe(self) -> Health:
            raise KeyError("x")

    health = await guarded(Odd("x")).probe()

    assert (health.ready, health.details["circuit"]) == (False, "closed")


async def test_the_metric_of_a_circuit_is_that_of_the_newest():
    """A reload makes a new one, which trusts the executor again."""
    guard = guarded(Scripted("renewed", *[Unreachable("refused")] * 100))
    for _ in range(5):
        with pytest.raises(Unreachable):
            await content(guard)

    def told() -> float | None:
        name = "workspace_gateway_executor_circuit_state"
        return REGISTRY.get_sample_value(name, {"executor": "renewed"})

    before = told()
    guarded(Scripted("renewed"))

    assert (before, told()) == (State.OPEN.value, State.CLOSED.value)


async def test_verdicts_and_full_slots_do_not_open_the_circuit():
    verdicts: list[GatewayError] = [PathNotFound("x"), WorkspaceGone("x"), Unsupported("x")]
    guard = guarded(Scripted("x", *verdicts * 10), concurrency=1, first_byte=0.02)
    for number in range(30):
        with pytest.raises(GatewayError):
            await content(guard, f"s{number}")
    async with guard.open("s0", PATH):
        for number in range(10):
            with pytest.raises(Busy):
                await content(guard, f"s{number}")

    assert guard.circuit.state is State.CLOSED


async def test_the_time_for_an_answer_begins_with_the_call_not_with_the_wait_for_a_slot():
    """Else readers who hold all slots for long could have those behind them open the circuit."""
    guard = guarded(Scripted("x", *[1.2] * 9), concurrency=5, first_byte=2.0)
    for _ in range(5):
        await guard.slots.acquire("held")

    async with asyncio.TaskGroup() as tasks:
        late = [tasks.create_task(content(guard, f"s{number}")) for number in range(5)]
        await asyncio.sleep(1.2)
        for _ in range(5):
            guard.slots.release("held")

    assert [call.result() for call in late] == [b"hello"] * 5
    assert guard.circuit.state is State.CLOSED


async def given_up_on(*steps: Step, **how: Any) -> Guarded:
    """A guard whose circuit has just opened, and may be tried again; then *steps* are taken."""
    now = 0.0
    guard = guarded(Scripted("x", *[Unreachable("refused")] * 5, *steps, **how))
    guard.circuit = Circuit(lambda state: None, 0.5, lambda: now)
    while guard.may_retry():
        pass
    for _ in range(5):
        with pytest.raises(Unreachable):
            await content(guard)
    assert guard.circuit.state is State.OPEN
    now = OPEN_S
    return guard


async def test_what_the_executor_cannot_do_says_nothing_of_its_backend():
    """A client may ask for such a thing as often as it likes."""
    guard = await given_up_on(Unsupported("no such names"))

    with pytest.raises(Unsupported):
        await content(guard)

    assert guard.circuit.state is not State.CLOSED


async def test_a_call_that_waits_for_its_turn_does_not_keep_others_from_trying():
    guard = await given_up_on(per_workspace=1)
    await guard.slots.acquire("busy")  # as a listing that is read slowly does

    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(content(guard, "busy"))
        await asyncio.sleep(0.05)
        assert await content(guard, "other") == b"hello"
        assert not waiting.done()
        guard.slots.release("busy")

    assert waiting.result() == b"hello"


async def test_a_client_who_leaves_an_older_call_does_not_make_room_for_a_second_trial():
    now = 0.0
    steps: list[Step] = [9.0, *[Unreachable("refused")] * 5, 9.0]
    guard = guarded(Scripted("x", *steps), first_byte=9.0)
    guard.circuit = Circuit(lambda state: None, 0.5, lambda: now)
    while guard.may_retry():
        pass
    older = asyncio.ensure_future(content(guard))
    await asyncio.sleep(0)
    for _ in range(5):
        with pytest.raises(Unreachable):
            await content(guard)
    now = OPEN_S
    trial = asyncio.ensure_future(content(guard))
    await asyncio.sleep(0)

    older.cancel()
    await asyncio.wait([older])
    with pytest.raises(CircuitOpen):
        await content(guard)

    trial.cancel()
    await asyncio.wait([trial])
    assert await content(guard) == b"hello"


@pytest.mark.parametrize(("connect", "state"), [(0.01, State.OPEN), (5.0, State.CLOSED)])
async def test_a_route_that_has_no_more_time_counts_against_who_took_it(connect, state):
    """Unless that was so little that it could not have answered."""
    slow = guarded(Scripted("slow", *[9.0] * 20), first_byte=5.0, connect=connect)
    chain = Fallback([slow, Scripted("y")], 0.05)

    for number in range(6):
        async with chain.open(f"s{number}", PATH) as stream:
            assert stream.fallback in ("timeout", "circuit_open")

    assert slow.circuit.state is state


async def test_a_client_that_leaves_counts_against_nobody():
    slow = guarded(Scripted("slow", *[9.0] * 20), first_byte=5.0, connect=0.01)

    for number in range(6):
        call = asyncio.ensure_future(content(Fallback([slow, Scripted("y")], 9.0), f"s{number}"))
        await asyncio.sleep(0.03)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    assert slow.circuit.state is State.CLOSED


async def test_the_total_time_counts_also_for_what_comes_at_once():
    """A client that reads slowly would else hold its slot for as long as it likes."""
    guard = guarded(Scripted("x", pieces=[bytes(65_536)] * 8, size=8 * 65_536), total=0.5)

    async with guard.open("s1", PATH) as stream:
        coming = stream.chunks(0, 8 * 65_536)
        await anext(coming)
        await asyncio.sleep(0.6)
        with pytest.raises(StreamBroken):
            await anext(coming)
