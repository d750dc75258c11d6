"""Two organisations on one gateway: what each route says of own, foreign and unknown sessions."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.app import dialects
from gateway.domain.model import SessionId
from gateway.domain.records import Session
from gateway.http.dialects.base import Route
from gateway.store.base import Store
from gateway.store.store import opened
from tests.doubles.packing import Packer, packing_services
from tests.gateways import Gateway, config_for, plant, running
from tests.http.asking import ACME, GLOBEX, SESSIONS, created, read, send, with_agents
from tests.wire import Answer, Wire

pytestmark = pytest.mark.usefixtures("each_store")

MOMENTARY = {"X-Request-ID", "Date"}

# Of each route: a target for a session, and what is said of a foreign one. An unknown one is 404
# everywhere, and of an own one 2xx.
OF_A_SESSION: dict[tuple[str, str], tuple[str, int]] = {
    ("GET", "/api/v1/sessions/{session_id}/files"): ("/api/v1/sessions/{}/files", 404),
    ("GET", "/api/v1/sessions/{session_id}/files/{path}"): ("/api/v1/sessions/{}/files/a", 404),
    ("GET", "/api/v1/sessions/{session_id}/archive"): ("/api/v1/sessions/{}/archive", 404),
    ("PUT", "/api/v1/sessions/{session_id}"): ("/api/v1/sessions/{}", 404),
    ("GET", "/v1/sessions/{session_id}"): ("/v1/sessions/{}", 403),
    ("GET", "/v1/sessions/{session_id}/workspace.zip"): ("/v1/sessions/{}/workspace.zip", 403),
    ("GET", "/api/v1/tasks/{runId}/files/download"): ("/api/v1/tasks/{}/files/download", 403),
}
OF_ALL: dict[tuple[str, str], str] = {
    ("GET", "/v1/sessions"): "/v1/sessions",
    ("GET", "/v1/agents/{agent_id}/sessions"): SESSIONS,
    ("POST", "/v1/agents/{agent_id}/sessions"): SESSIONS,
}
# What a table of plain requests cannot say: each has a test of its own below.
OF_THEIR_OWN = {
    ("GET", "/v1/sessions/{session_id}/stream"),
    ("POST", "/api/v1/sessions/{session_id}/links"),
    ("DELETE", "/api/v1/links/{link_id}"),
    ("GET", "/d/{ticket}"),
}
ASKED = [
    (method, target, foreign)
    for (route_method, _), (target, foreign) in OF_A_SESSION.items()
    for method in (("GET", "HEAD") if route_method == "GET" else (route_method,))
]
FILE = "/api/v1/sessions/{}/files/a"


@dataclass
class Scene:
    """A gateway, and sessions of the two organisations with a file each."""

    gateway: Gateway
    acme: str
    globex: str


@dataclass
class Registry:
    """A gateway, and its store as another process has it: for what no route can say."""

    gateway: Gateway
    store: Store

    async def register(self, session_id: str, org: str, **more: Any) -> None:
        await self.store.sessions.create(
            Session(SessionId(session_id), org, datetime.now(UTC), "idle", **more)
        )


@pytest.fixture(params=["strict", "open"])
def changes(request: pytest.FixtureRequest) -> dict[str, Any]:
    return with_agents(sessions={"register": request.param})


@asynccontextmanager
async def registering(root: Path, address: str, changes: dict[str, Any]) -> AsyncIterator[Registry]:
    async with running(root, changes) as gateway, opened(address) as store:
        yield Registry(gateway, store)


@pytest.fixture
async def scene(root: Path, changes: dict[str, Any]) -> AsyncIterator[Scene]:
    async with running(root, changes) as gateway:
        acme, globex = [await created(gateway, key=key) for key in (ACME, GLOBEX)]
        plant(root, {f"{acme}/a": b"acme's", f"{globex}/a": b"globex's"})
        yield Scene(gateway, acme, globex)


def told(answer: Answer) -> tuple[Any, ...]:
    return answer.status, answer.body, sorted(h for h in answer.headers if h[0] not in MOMENTARY)


async def test_every_route_has_a_row(root: Path) -> None:
    """A route that is new has to say what it tells whom."""
    async with packing_services(Packer({})) as services:
        routes: list[Route] = [
            route for dialect in dialects(config_for(root), services) for route in dialect.routes()
        ]

    assert {(route.method, route.name) for route in routes} == {
        *OF_A_SESSION,
        *OF_ALL,
        *OF_THEIR_OWN,
    }


@pytest.mark.parametrize(("method", "target", "foreign"), ASKED)
async def test_each_organisation_has_its_own_sessions(
    scene: Scene, method: str, target: str, foreign: int
) -> None:
    for key, own, other in ((ACME, scene.acme, scene.globex), (GLOBEX, scene.globex, scene.acme)):
        mine = await read(scene.gateway, target.format(own), key, method)
        yours = await read(scene.gateway, target.format(other), key, method)

        assert 200 <= mine.status < 300
        assert yours.status == foreign
        assert b"'s" not in yours.body


@pytest.mark.parametrize(("method", "target", "foreign"), ASKED)
async def test_a_foreign_session_is_told_from_an_unknown_one_only_where_that_is_documented(
    root: Path, method: str, target: str, foreign: int
) -> None:
    """A directory that nobody has registered does not exist either, where that is strict."""
    plant(root, {"s1/a": b"nobody's"})
    async with running(root, with_agents(sessions={"register": "strict"})) as gateway:
        theirs = await created(gateway, key=GLOBEX)
        answers = {
            session: told(await read(gateway, target.format(session), ACME, method))
            for session in (theirs, "sess_unknown", "s1")
        }

    assert answers["sess_unknown"][0] == answers["s1"][0] == 404
    assert answers["sess_unknown"] == answers["s1"]
    assert (answers[theirs] == answers["s1"]) is (foreign == 404)
    assert answers[theirs][0] == foreign


@pytest.mark.parametrize(("method", "target", "foreign"), ASKED)
async def test_an_external_id_is_one_in_its_own_organisation_only(
    root: Path, each_store: str, changes: dict[str, Any], method: str, target: str, foreign: int
) -> None:
    """Whatever else others call like that: the ids and external ids here cross each other."""
    plant(root, {"run-1/a": b"acme's", "run-2/a": b"globex's", "task/a": b"globex's"})
    async with registering(root, each_store, changes) as registry:
        await registry.register("run-1", "acme", external_id="task")
        await registry.register("run-2", "globex", external_id="run-1")
        await registry.register("task", "globex", external_id="their-task")
        own = {
            (key, name): await read(registry.gateway, target.format(name), key, method)
            for key in (ACME, GLOBEX)
            for name in ("run-1", "task")
        }
        theirs = await read(registry.gateway, target.format("their-task"), GLOBEX, method)
        foreign_id = await read(registry.gateway, target.format("run-2"), ACME, method)
        foreign_external, unknown = [
            await read(registry.gateway, target.format(name), ACME, method)
            for name in ("their-task", "unknown")
        ]
        files = [
            (await read(registry.gateway, FILE.format(name), key)).body
            for key in (ACME, GLOBEX)
            for name in ("run-1", "task")
        ]

    assert {answer.status // 100 for answer in (*own.values(), theirs)} == {2}
    assert foreign_id.status == foreign
    assert told(foreign_external) == told(unknown)
    assert files == [b"acme's"] * 2 + [b"globex's"] * 2


@pytest.mark.parametrize(("method", "target", "foreign"), ASKED)
async def test_a_deleted_session_is_unknown_to_everybody(
    root: Path, each_store: str, changes: dict[str, Any], method: str, target: str, foreign: int
) -> None:
    """By its id, its external id and the name of its workspace, whose files are still there."""
    plant(root, {"gone/a": b"globex's", "w42/a": b"globex's"})
    async with registering(root, each_store, changes) as registry:
        await registry.register("gone", "globex", external_id="task")
        await registry.register("run-7", "globex", workspace="w42")
        for session in ("gone", "run-7"):
            await registry.store.sessions.delete(SessionId(session))
        answers = [
            await read(registry.gateway, target.format(name), key, method)
            for key in (ACME, GLOBEX)
            for name in ("gone", "run-7", "w42")
        ]
        by_external_id, unknown = [
            await read(registry.gateway, target.format(name), GLOBEX, method)
            for name in ("task", "unknown")
        ]

    assert {answer.status for answer in answers} == {404}
    assert told(by_external_id) == told(unknown)
    if method != "PUT":  # which makes a directory for an unknown one, where that is open
        assert [told(answer) for answer in answers] == [told(unknown)] * len(answers)


async def test_a_deleted_session_stops_within_a_second_until_it_is_registered_again(
    root: Path, each_store: str, changes: dict[str, Any]
) -> None:
    plant(root, {"gone/a": b"globex's"})
    async with registering(root, each_store, changes) as registry:

        async def statuses() -> list[int]:
            return [
                (await read(registry.gateway, FILE.format("gone"), key)).status
                for key in (ACME, GLOBEX)
            ]

        await registry.register("gone", "globex")
        before = await statuses()
        await registry.store.sessions.delete(SessionId("gone"))
        await asyncio.sleep(1)
        after = await statuses()
        await registry.register("gone", "globex")
        again = await statuses()

    assert (before, after, again) == ([404, 200], [404, 404], [404, 200])


async def test_a_workspace_is_not_to_be_had_by_the_name_of_its_directory(
    root: Path, each_store: str, changes: dict[str, Any]
) -> None:
    plant(root, {"w42/a": b"globex's"})
    async with registering(root, each_store, changes) as registry:
        await registry.register("run-7", "globex", workspace="w42")
        answers = {
            (key, name): (await read(registry.gateway, FILE.format(name), key)).status
            for key in (ACME, GLOBEX)
            for name in ("run-7", "w42")
        }

    assert answers == {
        (ACME, "run-7"): 404,
        (ACME, "w42"): 404,
        (GLOBEX, "run-7"): 200,
        (GLOBEX, "w42"): 404,
    }


async def test_nobody_follows_what_happens_to_anothers_session(scene: Scene) -> None:
    target = "/v1/sessions/{}/stream"
    for method in ("GET", "HEAD"):
        foreign = await read(scene.gateway, target.format(scene.globex), ACME, method)
        unknown = await read(scene.gateway, target.format("sess_unknown"), ACME, method)

        assert (foreign.status, unknown.status) == (403, 404)


async def test_nobody_makes_or_revokes_anothers_links(scene: Scene) -> None:
    async def made(session: str, key: str) -> Answer:
        target = f"/api/v1/sessions/{session}/links"
        return await send(scene.gateway, target, {"path": "a"}, key=key)

    link = (await made(scene.globex, GLOBEX)).json
    foreign, unknown = await made(scene.globex, ACME), await made("sess_unknown", ACME)
    revoked, missing = [
        await read(scene.gateway, f"/api/v1/links/{link_id}", ACME, "DELETE")
        for link_id in (link["id"], "lnk_unknown")
    ]

    assert told(foreign) == told(unknown)
    assert told(revoked) == told(missing)
    assert foreign.status == revoked.status == 404
    async with await Wire.connect(scene.gateway.port) as wire:
        assert (await wire.ask(link["url"])).body == b"globex's"


@pytest.mark.parametrize("target", ["/v1/sessions", SESSIONS])
async def test_lists_and_cursors_hold_the_callers_sessions_only(scene: Scene, target: str) -> None:
    await created(scene.gateway, {"metadata": {"of": "acme"}}, key=ACME)
    await created(scene.gateway, key=GLOBEX)
    mine = (await read(scene.gateway, f"{target}?limit=1", ACME)).json
    theirs = await read(scene.gateway, f"{target}?cursor={mine['next_cursor']}", GLOBEX)
    filtered = await read(scene.gateway, f"{target}?metadata.of=acme", GLOBEX)

    assert scene.acme not in json.dumps(theirs.json)
    assert {session["id"] for session in theirs.json["sessions"]} <= {scene.globex}
    assert filtered.json["sessions"] == []


async def test_directories_are_everybodys_where_registration_is_open(root: Path) -> None:
    plant(root, {"s1/a": b"x"})
    async with running(root, with_agents()) as gateway:
        for key in (ACME, GLOBEX):
            assert (await read(gateway, "/api/v1/sessions/s1/files/a", key)).body == b"x"
            assert (await read(gateway, "/v1/sessions/s1", key)).status == 404


async def test_an_archive_that_one_may_have_is_no_way_to_anothers(scene: Scene) -> None:
    """The spool has both, and the same ETag for the same files of another session is no key."""
    target = "/api/v1/sessions/{}/archive"
    mine = await read(scene.gateway, target.format(scene.acme), ACME)
    etag = mine.header("ETag")

    answer = await send(
        scene.gateway,
        target.format(scene.globex),
        b"",
        f"If-None-Match: {etag}",
        key=ACME,
        method="GET",
    )

    assert (mine.status, answer.status) == (200, 404)
