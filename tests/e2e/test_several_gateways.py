"""Two gateways on one PostgreSQL, behind the real nginx with the configuration that is shipped."""

import asyncio
import hashlib
import io
import signal
import sys
import time
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import chain, count, cycle
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests import postgres
from tests.e2e.operating import big_file, eventually, launched, log_of
from tests.e2e.proxies import Proxy, nginx
from tests.gateways import AUTH, Process, key_entry, plant, wait_until_ready
from tests.ports import free_port
from tests.wire import Answer, Wire, ask, head

SCOPES = ["sessions:read", "sessions:write", "files:read", "archives:read", "links:write"]
AGENT = "/v1/agents/agt_123/sessions"
SECRET = "canary-t0p-s3cret"
BIG = 32 << 20
CLIENTS = 8

_numbers = count()


@dataclass
class Two:
    """Two gateways that share a database and a disk, and nginx before them."""

    tmp: Path
    proxy: Proxy
    settings: dict[str, Any]
    running: ExitStack
    gateways: dict[int, Process] = field(default_factory=dict)

    def start(self, *ports: int) -> None:
        """Start the gateways that listen there, and wait for both."""
        for port in ports:
            home = self.tmp / str(port)
            home.mkdir(exist_ok=True)
            settings = {**self.settings, "server": {"port": port}}
            self.gateways[port] = self.running.enter_context(
                launched(home, self.tmp / "workspaces", settings)
            )
        for port in ports:
            wait_until_ready(self.gateways[port])

    async def created(self, port: int, **body: object) -> str:
        """The id of a new session, with some files in its workspace."""
        answer = await posted(port, AGENT, **body)
        assert answer.status == 201, answer.body
        session_id: str = answer.json["id"]
        workspace = self.tmp / "workspaces" / session_id
        plant(workspace, {"data/a.txt": b"a" * 5000, "b": b"b"})
        return session_id

    async def by_each(self, target: str, credential: str = AUTH) -> list[int]:
        """The statuses that both of them answer with."""
        asked = (ask(port, target, credential) for port in self.gateways)
        return [answer.status for answer in await asyncio.gather(*asked)]

    def passed_to(self) -> dict[str, list[int]]:
        """The gateways that nginx has tried, by their ports, for each request that had an id."""
        lines = (self.proxy.log.parent / "access.log").read_text().splitlines()
        told = (line.split("|") for line in lines)
        return {
            name: [int(where.rpartition(":")[2]) for where in tried.split(", ")]
            for _, tried, name in told
            if name != "-"
        }


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    """One pair for all of these tests; what one of them stops it starts again."""
    tmp = tmp_path_factory.mktemp("several")
    settings = {
        "auth": {"keys": [key_entry(scopes=SCOPES)]},
        "store": {"url": postgres.server().new_database()},
        "sessions": {"register": "strict"},
        "agents": {"agt_123": {"version": "ver_9", "sandbox": {"secrets": ["GITHUB_TOKEN"]}}},
    }
    ports = free_port(), free_port()
    (tmp / "workspaces").mkdir()
    with ExitStack() as running, nginx(tmp / "nginx", ports) as proxy:
        two = Two(tmp, proxy, settings, running)
        two.start(*ports)
        yield two


async def posted(port: int, target: str, **body: object) -> Answer:
    raw = orjson.dumps(body)
    async with await Wire.connect(port) as wire:
        length = f"Content-Length: {len(raw)}"
        await wire.send(head(target, AUTH, length, method="POST") + raw)
        return await wire.answer()


async def workspace_gateway(*words: object) -> str:
    """What the command prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *map(str, words), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode().strip()


# --- what they share ------------------------------------------------------------------------------


async def test_what_daris_clients_do_works_through_nginx(two: Two) -> None:
    port = two.proxy.port
    session_id = await two.created(
        port, metadata={"kind": "trial"}, secrets={"GITHUB_TOKEN": SECRET}
    )

    shown = await ask(port, f"/v1/sessions/{session_id}", AUTH)
    listed = await ask(port, "/v1/sessions?metadata.kind=trial", AUTH)
    zipped = await ask(port, f"/v1/sessions/{session_id}/workspace.zip?path=data", AUTH)

    assert shown.json["metadata"] == {"kind": "trial"}
    assert [one["id"] for one in listed.json["sessions"]] == [session_id]
    with zipfile.ZipFile(io.BytesIO(zipped.body)) as archive:
        assert archive.read("data/a.txt") == b"a" * 5000
    for answer in (shown, listed, zipped):
        assert SECRET.encode() not in answer.body


async def test_what_one_has_made_the_other_has_at_once(two: Two) -> None:
    one, other = two.gateways
    for number in range(10):
        session_id = await two.created(one, name=str(number))

        for target in (f"/v1/sessions/{session_id}", f"/api/v1/sessions/{session_id}/files"):
            assert (await ask(other, target, AUTH)).status == 200


async def test_the_uses_of_a_link_are_counted_together(two: Two) -> None:
    session_id = await two.created(two.proxy.port)
    made = await posted(
        two.proxy.port, f"/api/v1/sessions/{session_id}/links", path="b", max_uses=10
    )

    used = await asyncio.gather(*(two.by_each(made.json["url"]) for _ in range(15)))

    assert sorted(chain(*used)) == [200] * 10 + [404] * 20


async def test_a_revoked_key_ends_in_both_within_a_second(two: Two) -> None:
    """It is revoked with the command while both gateways use it."""
    config = two.tmp / str(min(two.gateways)) / "gateway.yaml"
    grant = ("--id", "ci", "--org", "acme", "--scope", "sessions:read")
    key = await workspace_gateway("keys", "create", "-q", "--config", config, *grant)
    credential = f"X-API-Key: {key}"
    assert await two.by_each("/v1/sessions", credential) == [200, 200]

    revoking = asyncio.create_task(workspace_gateway("keys", "revoke", "--config", config, "ci"))
    while not revoking.done():
        await two.by_each("/v1/sessions", credential)
    await revoking
    await asyncio.sleep(1)

    assert await two.by_each("/v1/sessions", credential) == [401, 401]


# --- what happens to one of them ------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """A request that is over: between which moments, and whether its answer was a good one."""

    kind: str
    began: float
    ended: float
    good: bool


@dataclass(frozen=True)
class Request:
    """What clients ask for, and whether a whole answer is the right one."""

    kind: str
    target: str
    right: Callable[[Answer], bool]
    method: str = "GET"


@dataclass
class Load:
    """What was asked through nginx, by the id that each request had."""

    port: int
    asked: dict[str, Asked] = field(default_factory=dict)

    async def ask(self, wire: Wire, request: Request, pause_s: float = 0) -> bool:
        """Ask, read the answer after a pause; return whether the connection is good for more."""
        name, began, good, more = f"load-{next(_numbers)}", time.monotonic(), False, False
        named = f"X-Request-ID: {name}"
        try:
            await wire.send(head(request.target, AUTH, named, method=request.method))
            await asyncio.sleep(pause_s)
            answer = await wire.answer()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        else:
            good = answer.complete and answer.status in (200, 201)
            assert not good or request.right(answer), f"{request.kind}: complete, and wrong"
            more = good and answer.header("Connection") != "close"
        self.asked[name] = Asked(request.kind, began, time.monotonic(), good)
        return more

    async def ask_on_and_on(self, requests: Iterator[Request]) -> None:
        """One thing after the other, on one connection as long as it is good."""
        while True:
            async with await Wire.connect(self.port) as wire:
                while await self.ask(wire, next(requests)):
                    pass

    async def ask_slowly(self, request: Request) -> None:
        """Once, with so small a buffer that most of a large answer waits in the gateway."""
        async with await Wire.connect(self.port, limit=4096) as wire:
            await self.ask(wire, request, pause_s=2)


@asynccontextmanager
async def loaded(two: Two, downloads: int, creating: int = CLIENTS) -> AsyncIterator[Load]:
    """Eight clients that ask for all kinds of things, beside *downloads* by slow readers.

    So many of them are *creating* sessions, too.
    """
    port = two.proxy.port
    session_id = await two.created(port, metadata={"kind": "load"})
    session, files = f"/v1/sessions/{session_id}", f"/api/v1/sessions/{session_id}/files"
    big = big_file(two.tmp, BIG)
    (two.tmp / "s1/big.bin").rename(two.tmp / "workspaces" / session_id / "big.bin")
    zipped = (await ask(port, f"{session}/workspace.zip?path=data", AUTH)).body
    requests = [
        Request("show", session, lambda answer: answer.json["id"] == session_id),
        Request(
            "list",
            "/v1/sessions?metadata.kind=load",
            lambda answer: answer.json["sessions"][0]["id"] == session_id,
        ),
        Request("files", files, lambda answer: len(answer.json["files"]) == 3),
        Request("file", f"{files}/data/a.txt", lambda answer: answer.body == b"a" * 5000),
        Request("zip", f"{session}/workspace.zip?path=data", lambda a: a.body == zipped),
        Request("create", AGENT, lambda answer: answer.json["id"] != session_id, method="POST"),
    ]
    download = Request("download", f"{files}/big.bin", lambda a: sha256(a.body) == big)
    load = Load(port)
    readers = [asyncio.create_task(load.ask_slowly(download)) for _ in range(downloads)]
    kinds = [requests if n < creating else requests[:-1] for n in range(CLIENTS)]
    clients = [
        asyncio.create_task(load.ask_on_and_on(cycle(kinds[n][n:] + kinds[n][:n])))
        for n in range(CLIENTS)
    ]
    try:
        await asyncio.sleep(1)
        yield load
        await asyncio.gather(*readers)
    finally:
        for client in clients:
            client.cancel()
        await asyncio.wait([*clients, *readers])
    for client in clients:
        assert client.cancelled(), client.exception()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def test_a_gateway_that_is_killed_takes_along_what_it_was_serving_and_no_more(
    two: Two,
) -> None:
    """What it had not begun to answer nginx asks the other one, where that is safe."""
    one, other = two.gateways
    # Else all that waits for the dead gateway may be creations, which take longest.
    async with loaded(two, downloads=4, creating=2) as load:
        killed = time.monotonic()
        two.gateways[one].popen.send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.3)  # for requests that it will not have begun to answer
        two.gateways[one].popen.kill()
        two.gateways[one].popen.wait()
        gone = time.monotonic()
        await asyncio.sleep(1)
        two.start(one)
        await eventually(lambda: len(log_of(two.gateways[one], "http_request")) > 20)

    await eventually(lambda: load.asked.keys() <= two.passed_to().keys())
    passed_to = two.passed_to()
    served = {
        name
        for name, asked in load.asked.items()
        if asked.began <= gone and asked.ended >= killed and passed_to[name][0] == one
    }
    failed = {name for name, asked in load.asked.items() if not asked.good}
    passed_on = {name for name in load.asked if passed_to[name] == [one, other]}
    assert failed <= served
    assert {"download"} <= {load.asked[name].kind for name in failed}
    assert passed_on - failed, "nginx asked nobody else"


async def test_a_gateway_that_is_stopped_fails_nobody(two: Two) -> None:
    one, _ = two.gateways
    async with loaded(two, downloads=4) as load:
        two.gateways[one].signal(signal.SIGTERM)
        assert await two.gateways[one].exit_code() == 0
        await asyncio.sleep(0.5)
        two.start(one)

    assert {tried[0] for tried in two.passed_to().values()} == set(two.gateways)
    assert [asked for asked in load.asked.values() if not asked.good] == []
