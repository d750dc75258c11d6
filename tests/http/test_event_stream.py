"""The stream of a session's events, as clients of Server-Sent Events read it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal

import httpx
import pytest
from httpx_sse import EventSource, ServerSentEvent, aconnect_sse

from gateway.config.model import ExecutorConfig
from gateway.domain.model import Scope, SessionId
from gateway.executors import registry
from gateway.executors.base import Changed
from gateway.executors.local.local import Local, LocalConfig
from gateway.store.store import opened
from tests import stores
from tests.e2e.operating import eventually
from tests.gateways import (
    AUTH,
    KEY,
    Gateway,
    connections,
    held,
    key_entry,
    plant,
    running,
    store_address,
)
from tests.wire import Wire, ask, head

SCOPES = ["files:read", "archives:read", "sessions:read"]
STREAM = "/v1/sessions/s1/stream"


def config(*keys: dict[str, Any], **sections: Any) -> dict[str, Any]:
    return {"auth": {"keys": list(keys) or [key_entry(scopes=SCOPES)]}, **sections}


@pytest.fixture
async def gateway(root: Path) -> AsyncIterator[Gateway]:
    plant(root, {"s1/a.txt": b"content"})
    async with running(root, config()) as gateway:
        yield gateway


@asynccontextmanager
async def streamed(port: int, **headers: str) -> AsyncIterator[EventSource]:
    """The stream, as an unmodified client has it."""
    url = f"http://127.0.0.1:{port}{STREAM}"
    async with (
        httpx.AsyncClient(headers={"X-API-Key": KEY, **headers}, timeout=30) as client,
        aconnect_sse(client, "GET", url) as source,
    ):
        yield source


async def first(source: EventSource, count: int) -> list[ServerSentEvent]:
    found: list[ServerSentEvent] = []
    async with asyncio.timeout(30):
        async for event in source.aiter_sse():
            found.append(event)
            if len(found) == count:
                break
    return found


@pytest.mark.usefixtures("each_store")
async def test_a_download_is_told_to_whoever_follows(gateway):
    async with streamed(gateway.port) as source:
        await gateway.file("a.txt")
        await gateway.file("a.txt", method="HEAD")
        (event,) = await first(source, 1)

    assert (event.id, event.event) == ("1", "workspace.downloaded")
    assert event.json() == {"downloads": [{"path": "/a.txt", "key_id": "test"}]}


async def test_archives_are_told_and_what_the_client_had_already_is_not(gateway):
    etag = (await gateway.file("a.txt", method="HEAD")).header("ETag")
    async with streamed(gateway.port) as source:
        assert (await gateway.file("a.txt", f"If-None-Match: {etag}")).status == 304
        await gateway.ask("/v1/sessions/s1/workspace.zip")
        (event,) = await first(source, 1)

    assert event.json() == {"downloads": [{"archive": "zip", "paths": ["/"], "key_id": "test"}]}


@pytest.mark.usefixtures("each_store")
async def test_many_downloads_are_few_events_of_bounded_size(gateway):
    told = more = 0
    async with streamed(gateway.port) as source:
        await asyncio.gather(*(gateway.file("a.txt") for _ in range(50)))
        async with asyncio.timeout(30):
            async for event in source.aiter_sse():
                downloads = event.json()
                assert len(downloads["downloads"]) <= 20
                told += len(downloads["downloads"])
                more += downloads.get("more", 0)
                if told + more == 50:
                    break

    assert more > 0


async def watched(events: AsyncIterator[ServerSentEvent], root: Path) -> None:
    """Return once changes are noticed: what is there before is no change."""

    async def touch() -> None:
        for number in range(100):
            plant(root, {"s1/probe": b"x" * number})
            await asyncio.sleep(0.3)

    touching = asyncio.create_task(touch())
    async with asyncio.timeout(30):
        await anext(events)
    touching.cancel()


async def test_changes_are_told_within_bounds_and_never_from_outside(gateway, root):
    outside = plant(root.parent / "outside", {"secret": b"x"})
    plant(root, {"s1/link": str(outside), "s1/deep": None})
    expected = {"/a.txt", "/deep/new", "/odd\uefff", "/zoo"}
    found: set[str] = set()
    async with streamed(gateway.port) as source:
        events = source.aiter_sse()
        await watched(events, root)
        plant(outside, {"other": b"y"})
        plant(root, {"s1/deep/new": b"1", "s1/a.txt": b"changed", b"s1/odd\xff": b""})
        plant(root, {f"s1/zoo/{number:03}": b"" for number in range(150)})
        async with asyncio.timeout(30):
            async for event in events:
                changed = event.json()
                assert event.event == "workspace.changed"
                assert len(changed["paths"]) <= 100
                found.update(changed["paths"])
                if expected <= found:
                    break

    assert not [path for path in found if "other" in path or "secret" in path]


class FalteringConfig(LocalConfig):
    """As the local one's."""

    type: Literal["faltering"]


class Faltering(Local):
    """Fails in a way of its own when it is asked for changes for the first time."""

    Config: ClassVar[type[ExecutorConfig]] = FalteringConfig
    asked = 0

    def changes(self, workspace: str) -> AsyncIterator[Changed]:
        self.asked += 1
        if self.asked == 1:
            raise RuntimeError("no watch today")
        return super().changes(workspace)


async def test_a_watch_that_fails_is_told_and_begun_anew(root, monkeypatch):
    monkeypatch.setitem(registry._places(), "faltering", f"{__name__}:Faltering")
    plant(root, {"s1/a.txt": b"content"})
    executors = {"local": {"type": "faltering", "root": str(root)}}
    async with running(root, config(executors=executors)) as gateway:
        before = (await gateway.ask("/readyz")).json
        async with streamed(gateway.port) as source:
            await watched(source.aiter_sse(), root)
        await asyncio.sleep(1)
        after = (await gateway.ask("/readyz")).json

    assert (before["status"], before["failing"]) == ("ready", [])
    assert (after["status"], after["failing"]) == ("ready", ["workspace.changes"])


async def test_followers_of_one_session_do_not_multiply_its_changes(gateway, root):
    seen = []
    async with streamed(gateway.port) as one, streamed(gateway.port):
        await watched(one.aiter_sse(), root)
        plant(root, {"s1/b": b""})
        await asyncio.sleep(7)
    async with streamed(gateway.port) as source:
        with suppress(TimeoutError):
            async with asyncio.timeout(2):
                async for event in source.aiter_sse():
                    seen += event.json()["paths"]

    assert seen.count("/b") == 1


@pytest.mark.usefixtures("each_store")
async def test_a_client_goes_on_behind_the_last_event_it_has(gateway, root):
    async with opened(store_address(root)) as store, asyncio.timeout(30):
        for number in range(3):
            await gateway.file("a.txt")
            while not await store.events.after(SessionId("s1"), number, 1):
                await asyncio.sleep(0.05)
    async with streamed(gateway.port) as source:
        everything = await first(source, 3)
    async with streamed(gateway.port, **{"Last-Event-ID": "2"}) as source:
        (rest,) = await first(source, 1)

    assert [event.id for event in everything] == ["1", "2", "3"]
    assert (rest.id, rest.data) == ("3", everything[2].data)


@pytest.mark.usefixtures("each_store")
async def test_events_outlive_the_process(root):
    plant(root, {"s1/a.txt": b"content"})
    async with running(root, config()) as gateway:
        await gateway.file("a.txt")
    async with running(root, config()) as gateway, streamed(gateway.port) as source:
        (event,) = await first(source, 1)

    assert event.event == "workspace.downloaded"


async def test_a_draining_gateway_ends_streams_cleanly_and_first(root):
    plant(root, {"s1/a.txt": b"content"})
    async with running(root, config(server={"drain": "30s"})) as gateway:
        wire = await Wire.connect(gateway.port)
        await wire.send(head(STREAM, AUTH))
        await wire.reader.readuntil(b"\r\n\r\n")
        began = asyncio.get_running_loop().time()
    async with wire:
        data, end = await wire.rest()
    took = asyncio.get_running_loop().time() - began

    assert (data, end) == (b"0\r\n\r\n", "closed")
    assert took < 5


async def test_a_stream_ends_with_the_permission_for_it(root):
    plant(root, {"s1/a.txt": b"content"})
    end = (datetime.now(UTC) + timedelta(seconds=4)).isoformat()
    async with (
        running(root, config(key_entry(scopes=SCOPES, expires=end))) as gateway,
        await Wire.connect(gateway.port) as wire,
    ):
        await wire.send(head(STREAM, AUTH))
        answer = await asyncio.wait_for(wire.answer(), 7)

    assert (answer.status, answer.complete) == (200, True)


@pytest.mark.parametrize(("end", "what"), [("revoke", "sk_stored"), ("delete", "sess_1")])
async def test_streams_end_within_a_second_of_what_another_process_ends(
    root: Path, each_store: str, end: str, what: str
) -> None:
    """Their key or their session; although the session's directory stays, for everybody."""
    plant(root, {"sess_1/a": b"a"})
    async with (
        running(root, config(key_entry("sk_unused"))) as gateway,
        opened(each_store) as store,
        stores.Slowness.measured(store) as slowness,
        AsyncExitStack() as stack,
    ):
        scopes = frozenset({Scope.SESSIONS_READ})
        await store.keys.create(stores.key("sk_stored", scopes=scopes))
        await store.sessions.create(stores.session(1))
        streams = []
        for _ in range(5):
            wire = await stack.enter_async_context(await Wire.connect(gateway.port))
            await wire.send(head("/v1/sessions/sess_1/stream", "X-API-Key: sk_stored"))
            assert (await wire.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            streams.append(wire)
            await asyncio.sleep(0.11)  # so that they do not all look at the same moment
        other = stores.other_process(each_store, end, what)
        assert other.stdout is not None
        assert await asyncio.to_thread(other.stdout.readline) == "True\n"

        began = time.monotonic()
        ends = [one.reader.readuntil(b"0\r\n\r\n") for one in streams]
        await asyncio.wait_for(asyncio.gather(*ends), 30)
        took = time.monotonic() - began

        await stores.said_by(other)
    assert took < 1 + 4 * slowness.worst_s


async def test_a_reader_that_takes_nothing_is_cut_off(root):
    """When it is, somebody else may have its place; what it was not sent was never in memory."""
    plant(root, {"s1/a.txt": b"content"})
    changes = config(server={"idle_timeout": "1s"}, limits={"streams_at_once": 1})
    size = 1_000_000
    async with running(root, changes) as gateway, opened(store_address(root)) as store:
        for _ in range(40):
            await store.events.append(SessionId("s1"), "test", {"filler": "x" * size})
        async with await Wire.connect(gateway.port) as wire:
            await wire.send(head(STREAM, AUTH))
            await wire.reader.readuntil(b"\r\n\r\n")
            refused = await ask(gateway.port, STREAM, AUTH)
            async with asyncio.timeout(30):
                while (await _status_of_a_stream(gateway)) == 429:
                    await asyncio.sleep(0.1)
            data, end = await wire.rest()

    assert refused.status == 429
    assert end in ("reset", "closed")
    assert not data.endswith(b"\r\n0\r\n\r\n")
    assert len(data) < 39 * size


async def _status_of_a_stream(gateway: Gateway) -> int:
    async with streamed(gateway.port) as source:
        return source.response.status_code


async def test_readers_that_leave_free_everything(root):
    """Some say so, some do not; some have not read what there is."""
    plant(root, {"s1/a.txt": b"content"})

    async def come_and_leave(gateway: Gateway) -> None:
        wires = [await Wire.connect(gateway.port) for _ in range(20)]
        for wire in wires:
            await wire.send(head(STREAM, AUTH))
            assert (await wire.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        for wire in wires[:10]:
            wire.writer.transport.abort()
        for wire in wires:
            await wire.__aexit__(None, None, None)

    changes = config(limits={"streams_at_once": 20})
    async with running(root, changes) as gateway, opened(store_address(root)) as store:
        await store.events.append(SessionId("s1"), "test", {"filler": "x" * 10_000_000})
        tasks = len(asyncio.all_tasks())
        await come_and_leave(gateway)
        await eventually(lambda: len(asyncio.all_tasks()) <= tasks, 30)
        await eventually(lambda: not connections(gateway.port))
        before = held(gateway.port)
        for _ in range(3):
            await come_and_leave(gateway)

            await eventually(lambda: len(asyncio.all_tasks()) <= tasks, 30)
            await eventually(lambda: held(gateway.port) <= before, 30)


async def test_head_says_what_get_would(gateway):
    answer = await ask(gateway.port, STREAM, AUTH, method="HEAD")

    assert answer.status == 200
    assert answer.header("Content-Type") == "text/event-stream"
    assert answer.header("Cache-Control") == "private, no-cache"


@pytest.mark.parametrize(
    ("target", "lines", "status"),
    [
        (STREAM, (AUTH, "Last-Event-ID: x"), 400),
        (STREAM, (AUTH, "Last-Event-ID: -1"), 400),
        (STREAM, (AUTH, f"Last-Event-ID: {'9' * 19}"), 400),
        ("/v1/sessions/none/stream", (AUTH,), 404),
        ("/v1/sessions/..%2fs1/stream", (AUTH,), 404),
        (STREAM, (), 401),
    ],
)
async def test_what_cannot_be_followed_is_refused(gateway, target, lines, status):
    for method in ("GET", "HEAD"):
        assert (await ask(gateway.port, target, *lines, method=method)).status == status


async def test_other_methods_are_refused(gateway):
    answer = await gateway.ask(STREAM, method="POST")

    assert (answer.status, answer.header("Allow")) == (405, "GET,HEAD")


async def test_another_organisation_may_not_have_all_streams(root):
    plant(root, {"s1/a.txt": b"content"})
    other = key_entry("sk_test_other", id="other", org="umbrella", scopes=SCOPES)
    limits = {"streams_at_once": 2}
    async with running(root, config(key_entry(scopes=SCOPES), other, limits=limits)) as gateway:
        async with streamed(gateway.port), streamed(gateway.port):
            third = await ask(gateway.port, STREAM, AUTH)
            async with streamed(gateway.port, **{"X-API-Key": "sk_test_other"}) as source:
                elsewhere = source.response.status_code
            files = await gateway.file("a.txt")
        async with asyncio.timeout(10):
            while (again := await _status_of_a_stream(gateway)) == 429:
                await asyncio.sleep(0.05)

    assert third.status == 429
    assert [elsewhere, files.status, again] == [200, 200, 200]
