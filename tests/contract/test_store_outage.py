"""What every store promises while its database is away, and when it is back."""

import asyncio
import json
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.config.store_url import sqlite_file
from gateway.domain.errors import StoreUnavailable
from gateway.domain.model import SessionId
from gateway.http.errors import headers_of, status_of
from gateway.store.base import Store
from gateway.store.database import DEADLINE_S
from gateway.store.store import opened
from tests import gateways, stores
from tests.postgres import Server, server
from tests.stores import digest, key, link, session

S1 = SessionId("s1")
CALLS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "check": lambda store: store.check(),
    "sessions.create": lambda store: store.sessions.create(session()),
    "sessions.find": lambda store: store.sessions.find("s1", "acme"),
    "sessions.claimed": lambda store: store.sessions.claimed("s1"),
    "sessions.page": lambda store: store.sessions.page("acme", limit=1),
    "sessions.left": lambda store: store.sessions.left("idle", datetime.now(UTC), 1),
    "sessions.update": lambda store: store.sessions.update(session(1), session(1)),
    "sessions.delete": lambda store: store.sessions.delete(S1),
    "keys.create": lambda store: store.keys.create(key()),
    "keys.by_digest": lambda store: store.keys.by_digest(digest("ci")),
    "keys.by_id": lambda store: store.keys.by_id("ci"),
    "keys.all": lambda store: store.keys.all(),
    "keys.revoke": lambda store: store.keys.revoke("ci"),
    "keys.rotate": lambda store: store.keys.rotate("ci", digest("x")),
    "links.create": lambda store: store.links.create(link()),
    "links.look": lambda store: store.links.look(digest("l1")),
    "links.take": lambda store: store.links.take(digest("l1")),
    "links.by_id": lambda store: store.links.by_id("l1"),
    "links.revoke": lambda store: store.links.revoke("l1"),
    "events.append": lambda store: store.events.append(S1, "test", {}),
    "events.after": lambda store: store.events.after(S1, 0, 1),
}


@asynccontextmanager
async def _stopped() -> AsyncIterator[Server]:
    """The server is down, and comes up again."""
    one = server()
    await asyncio.to_thread(one.stop)
    try:
        yield one
    finally:
        await asyncio.to_thread(one.start)


async def _refused(call: Awaitable[object]) -> float:
    """How long it took to be told that the store is not available."""
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await call
    return time.monotonic() - begun


async def _recovered(store: Store) -> None:
    async with asyncio.timeout(10):
        while True:
            with suppress(StoreUnavailable):
                return await store.check()
            await asyncio.sleep(0.05)


def test_every_call_is_tried_without_a_database() -> None:
    parts = Store.__annotations__
    calls = {
        f"{name}.{method}" for name, part in parts.items() for method in part.__abstractmethods__
    }

    assert set(CALLS) == {*calls, "check"} - {"keys.note_use", "events.follow"}


async def test_everything_is_refused_at_once_while_the_server_is_down_and_works_again_after() -> (
    None
):
    async with opened(server().new_database()) as store:
        await store.sessions.create(session(1))
        with capture_logs() as logs:
            async with _stopped():
                took = [await _refused(call(store)) for call in CALLS.values()]
            await _recovered(store)

        assert max(took) < 1
        assert await store.sessions.find("sess_1", "acme") is not None
    said = [line["event"] for line in logs if line["event"].startswith("store_")]
    assert said == ["store_unavailable", "store_available"]


async def test_a_store_that_is_down_at_the_start_is_used_when_it_is_up() -> None:
    url = server().new_database()
    async with _stopped() as down, opened(url) as store:
        await _refused(store.check())
        await asyncio.to_thread(down.start)
        await _recovered(store)
        await store.sessions.create(session(1))
        await asyncio.to_thread(down.stop)


async def test_a_follower_lives_through_an_outage() -> None:
    async with opened(server().new_database()) as store:
        events = store.events.follow(S1, 0)
        await store.events.append(S1, "test", {})
        first = await anext(events)
        following = asyncio.create_task(anext(events))
        async with _stopped():
            await asyncio.sleep(0.6)
        await _recovered(store)
        await store.events.append(S1, "test", {})

        async with asyncio.timeout(5):
            second = await following

    assert [first.id, second.id] == [1, 2]


async def test_what_could_not_be_written_of_uses_is_no_error() -> None:
    with capture_logs() as logs:
        async with opened(server().new_database()) as store:
            async with _stopped():
                store.keys.note_use("ci")
                async with asyncio.timeout(10):
                    while not logs:
                        await asyncio.sleep(0.01)
            await _recovered(store)

    said = [line["event"] for line in logs if line["log_level"] != "info"]
    assert said == ["store_unavailable"]


async def test_a_server_that_says_nothing_is_given_up_on() -> None:
    """It takes connections and is silent, as one behind a broken firewall."""
    connected = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        with suppress(ConnectionError):
            await reader.read()
        writer.close()

    listening = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    begun = time.monotonic()
    async with listening, opened(f"postgresql://u:p@127.0.0.1:{port}/d?sslmode=disable") as store:
        started = time.monotonic() - begun
        refused = await _refused(store.check())

    assert connected.is_set()
    assert started < DEADLINE_S + 1
    assert refused < 0.5


@asynccontextmanager
async def _falls_silent(port: int, silent: asyncio.Event) -> AsyncIterator[int]:
    """The port of somebody in front of *port* who passes on nothing once *silent* is set."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                if not silent.is_set():
                    writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pass_on(reader, forth), pass_on(back, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()[1]


@pytest.mark.parametrize("operation", ["sessions.find", "sessions.create"])
async def test_a_server_that_falls_silent_is_given_up_on(operation: str) -> None:
    """Also by whoever has a connection to it, in a transaction or not."""
    url, silent = server().new_database(), asyncio.Event()
    async with _falls_silent(server().port, silent) as port:
        url = url.replace(f":{server().port}/", f":{port}/")
        async with opened(url) as store:
            await store.keys.create(key())
            silent.set()
            took = await _refused(CALLS[operation](store))

    assert DEADLINE_S - 1 < took < DEADLINE_S + 1


@asynccontextmanager
async def _ends_late(port: int) -> AsyncIterator[int]:
    """The port of somebody in front of *port*, through whom the end of a connection comes late."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        await asyncio.sleep(1)
        writer.close()

    serving = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        back, forth = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pass_on(reader, forth), pass_on(back, writer))
        await asyncio.gather(forth.wait_closed(), writer.wait_closed())

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()[1]
        await asyncio.wait(serving)


async def test_a_connection_that_was_told_of_its_end_and_is_not_closed_yet_is_an_outage() -> None:
    """As after a shutdown of the server that the loop has seen a part of only."""
    url = server().new_database()
    name = url.rpartition("/")[2]
    async with (
        _ends_late(server().port) as port,
        opened(url.replace(f":{server().port}/", f":{port}/")) as store,
    ):
        await store.check()
        server().execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        )
        await asyncio.sleep(0.1)

        await _refused(store.check())
        await _recovered(store)


@contextmanager
def _locked(url: str, table: str) -> Iterator[None]:
    """Somebody else holds on to it: in SQLite, to everything that writes."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(sqlite_file(url) or "", isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
        return
    holder = subprocess.Popen(
        ["psql", "-X", "-q", url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    holder.stdin.write(f"BEGIN; LOCK TABLE {table}; \\echo locked\n")
    holder.stdin.flush()
    try:
        assert holder.stdout.readline() == "locked\n"
        yield
    finally:
        holder.communicate()


async def test_a_lock_holds_up_nobody_longer_than_the_deadline(shared: str) -> None:
    async with opened(shared) as store:
        with _locked(shared, "sessions"):
            took = await asyncio.gather(
                *(_refused(store.sessions.create(session())) for _ in range(3))
            )
        begun = time.monotonic()
        await store.sessions.create(session(1))
        again = time.monotonic() - begun

        assert max(took) < DEADLINE_S + 1
        assert again < DEADLINE_S
        assert await store.sessions.find("sess_1", "acme") is not None


async def test_reading_goes_on_while_somebody_writes(shared: str) -> None:
    async with opened(shared) as store:
        await store.sessions.create(session(1))
        with _locked(shared, "links"):
            begun = time.monotonic()
            assert await store.sessions.find("sess_1", "acme") is not None
            assert len((await store.sessions.page("acme", limit=9)).sessions) == 1

            assert time.monotonic() - begun < 1


async def test_a_call_that_is_cancelled_leaves_the_store_as_it_was(store: Store) -> None:
    for number in range(30):
        call = asyncio.create_task(store.sessions.create(session(number, metadata={"a": "b"})))
        await asyncio.sleep(number / 10_000)
        call.cancel()
        await asyncio.wait([call])

    await store.sessions.create(session(1000, metadata={"a": "b"}))
    # What was cancelled too late is written after all, and may be so between two looks.
    async with asyncio.timeout(5):
        while await store.sessions.page("acme", limit=100) != (
            await store.sessions.page("acme", limit=100, metadata={"a": "b"})
        ):
            await asyncio.sleep(0.05)
    assert await store.sessions.find("sess_1000", "acme") is not None


def test_clients_are_told_to_come_back() -> None:
    error = StoreUnavailable()

    assert status_of(error, {}) == 503
    assert headers_of(error)["Retry-After"] == "1"
    assert error.message == "the store is not available"


async def test_readiness_says_that_the_store_is_away_and_that_it_is_back(root: Path) -> None:
    url = stores.address_of("postgres", root)

    async with gateways.running(root, {"store": {"url": url}}) as gateway:

        async def readiness(status: int) -> object:
            async with asyncio.timeout(10):
                while (answer := await gateway.ask("/readyz")).status != status:
                    await asyncio.sleep(0.1)
            return json.loads(answer.body)["store"]

        assert await readiness(200) == {"ready": True}
        async with _stopped():
            assert await readiness(503) == {"ready": False}
        assert await readiness(200) == {"ready": True}
