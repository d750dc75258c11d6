"""Dari's sessions: made, shown and listed as documented; whatever a client sends instead."""

import asyncio
import re
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateways import Gateway, key_entry, plant, running
from tests.http.asking import ACME, GLOBEX, SESSIONS, created, read, send, with_agents
from tests.wire import Wire, head

on_each_store = pytest.mark.usefixtures("each_store")

FIELDS = [
    "id",
    "name",
    "agent_id",
    "version_id",
    "storage_binding_id",
    "internet_access",
    "status",
    "last_message_id",
    "last_message_status",
    "created_at",
    "metadata",
]
FULL = {
    "name": "Nightly",
    "storage_binding_id": "bind_1",
    "metadata": {"managed_run_id": "7", "kind": ""},
    "secrets": {"GITHUB_TOKEN": "t", "_A1": "u"},
    "llm_api_key": "k",
    "internet_access": True,
}


@pytest.fixture
async def gateway(root: Path) -> AsyncIterator[Gateway]:
    async with running(root, with_agents()) as running_gateway:
        yield running_gateway


# --- create ---------------------------------------------------------------------------------------


@on_each_store
async def test_a_session_without_a_body_is_as_documented(gateway: Gateway, root: Path) -> None:
    answer = await send(gateway, SESSIONS)

    assert answer.status == 201
    session = answer.json
    assert list(session) == FIELDS
    assert re.fullmatch(r"sess_[A-Za-z0-9]{22}", session["id"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", session["created_at"])
    assert {name: session[name] for name in FIELDS if name not in ("id", "created_at")} == {
        "name": None,
        "agent_id": "agt_123",
        "version_id": "ver_9",
        "storage_binding_id": None,
        "internet_access": False,
        "status": "idle",
        "last_message_id": None,
        "last_message_status": None,
        "metadata": {},
    }
    assert stat.S_IMODE((root / session["id"]).stat().st_mode) == 0o700


@on_each_store
async def test_what_is_said_of_a_session_is_kept(gateway: Gateway) -> None:
    answer = await send(gateway, SESSIONS, FULL)
    shown = await read(gateway, f"/v1/sessions/{answer.json['id']}")

    assert answer.status == 201
    assert shown.json == answer.json
    assert {name: shown.json[name] for name in FULL if name in FIELDS} == {
        name: value for name, value in FULL.items() if name in FIELDS
    }
    assert b"secrets" not in answer.body
    assert b"llm_api_key" not in answer.body


@on_each_store
async def test_null_is_nothing(gateway: Gateway) -> None:
    assert (await send(gateway, SESSIONS, dict.fromkeys(FULL))).status == 201


@on_each_store
async def test_the_agents_default_holds_where_nothing_is_said(root: Path) -> None:
    agents = {"agt_123": {"version": "ver_9", "sandbox": {"internet_access": True}}}

    async with running(root, with_agents(agents=agents)) as gateway:
        default = await send(gateway, SESSIONS)
        without = await send(gateway, SESSIONS, {"internet_access": False})

    assert (default.json["internet_access"], without.json["internet_access"]) == (True, False)


NOT_TEXT: list[Any] = [1, 1.5, True, [], {}, ["a"]]
WRONG: list[tuple[Any, str]] = [
    *(({"name": value}, "name: must be a string") for value in NOT_TEXT),
    *(({"storage_binding_id": v}, "storage_binding_id: must be a string") for v in NOT_TEXT),
    *(({"llm_api_key": value}, "llm_api_key: must be a string") for value in NOT_TEXT),
    *(({"metadata": value}, "metadata: must be an object") for value in (1, "a", True, [], [[]])),
    *(({"secrets": value}, "secrets: must be an object") for value in (1, "a", False, [])),
    *(({"metadata": {"k": v}}, "metadata.k: must be a string") for v in (*NOT_TEXT, None)),
    *(({"secrets": {"K": v}}, "secrets.K: must be a string") for v in (*NOT_TEXT, None)),
    *(
        ({"internet_access": value}, "internet_access: must be true or false")
        for value in (0, 1, "true", [], {})
    ),
    *(
        ({"secrets": {name: "v"}}, "secrets: names must match ^[A-Z_][A-Z0-9_]*$")
        for name in ("", "a", "A-B", "1A", "A B", "A\n", "Ä", "A" * 257, "А")
    ),
    ({"secrets": {"K": ""}}, "secrets.K: must have 1 to 65536 characters"),
    ({"llm_api_key": ""}, "llm_api_key: must have 1 to 65536 characters"),
    ({"name": ""}, "name: must have 1 to 256 characters"),
    ({"name": "n" * 257}, "name: must have 1 to 256 characters"),
    ({"metadata": {"k": "v" * 4097}}, "metadata.k: must have 0 to 4096 characters"),
    ({"metadata": {"": "v"}}, "metadata: names must have 1 to 256 characters, none a NUL"),
    ({"metadata": {"a\0": "v"}}, "metadata: names must have 1 to 256 characters, none a NUL"),
    ({"metadata": {str(n): "" for n in range(65)}}, "metadata: more than 64 entries"),
    ({"secrets": {f"K{n}": "v" for n in range(65)}}, "secrets: more than 64 entries"),
    (
        {"metadata": {"k": "a\0b"}},
        "metadata.k: must not hold a NUL character or half a surrogate pair",
    ),
    ({"name": "\ud800"}, "name: must not hold a NUL character or half a surrogate pair"),
    ({"Name": "x"}, "body: no field 'Name'"),
    ({"id": "sess_1"}, "body: no field 'id'"),
    ({"a b" * 50: 1}, f"body: no field {('a b' * 50)[:40]!r}"),
    ({"a\nb": 1}, "body: no field 'a\\nb'"),
]


@pytest.mark.parametrize(("body", "message"), WRONG)
async def test_a_wrong_field_is_named(
    gateway: Gateway, root: Path, body: dict[str, Any], message: str
) -> None:
    answer = await send(gateway, SESSIONS, body)

    assert (answer.status, answer.json) == (400, {"error": message, "detail": message})
    assert [path.name for path in root.iterdir()] == ["s1"]
    assert (await read(gateway, "/v1/sessions")).json["sessions"] == []


MALFORMED: list[tuple[bytes, int, str]] = [
    (b"{", 400, "body: not valid JSON"),
    (b"{}{}", 400, "body: not valid JSON"),
    (b"{'a':1}", 400, "body: not valid JSON"),
    (b'{"name":NaN}', 400, "body: not valid JSON"),
    (b'{"name":Infinity}', 400, "body: not valid JSON"),
    (b'{"name":' + b"9" * 5000 + b"}", 400, "body: not valid JSON"),
    (b'{"name":"\xff"}', 400, "body: not valid JSON"),
    (b'{"name":"a\nb"}', 400, "body: not valid JSON"),
    (b"\xef\xbb\xbf{}", 400, "body: not valid JSON"),
    (b"\xff\xfe{\0}\0", 400, "body: not valid JSON"),
    (b"\x1f\x8b\x08\0", 400, "body: not valid JSON"),
    (b"a=1", 400, "body: not valid JSON"),
    (b"null", 400, "body: must be a JSON object"),
    (b"[]", 400, "body: must be a JSON object"),
    (b'"a"', 400, "body: must be a JSON object"),
    (b"[" * 100_000, 400, "body: nested too deeply"),
    (b'{"metadata":' * 20_000 + b"1" + b"}" * 20_000, 400, "body: nested too deeply"),
    (b'{"name":"a","name":"a"}', 400, "body: 'name' stands twice"),
    (b'{"metadata":{"k":"a","k":"b"}}', 400, "body: 'k' stands twice"),
    (b'{"name":"' + b"a" * 262_144 + b'"}', 413, "body: more than 262144 bytes"),
    (b" " * 2_000_000, 413, "body: more than 262144 bytes"),
]


@pytest.mark.parametrize(("body", "status", "message"), MALFORMED, ids=lambda v: repr(v)[:24])
async def test_what_is_no_json_object_is_refused(
    gateway: Gateway, body: bytes, status: int, message: str
) -> None:
    answer = await send(gateway, SESSIONS, body)

    assert (answer.status, answer.json) == (status, {"error": message, "detail": message})


@on_each_store
async def test_another_media_type_is_refused(gateway: Gateway) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "nonsense"):
        async with await Wire.connect(gateway.port) as wire:
            lines = (f"X-API-Key: {ACME}", f"Content-Type: {kind}", "Content-Length: 2")
            await wire.send(head(SESSIONS, *lines, method="POST") + b"{}")
            answer = await wire.answer()

        assert (answer.status, answer.json["error"]) == (
            400,
            "Content-Type: must be application/json",
        )


@on_each_store
async def test_a_body_may_come_in_chunks_and_must_come_right(gateway: Gateway) -> None:
    lines = (f"X-API-Key: {ACME}", "Transfer-Encoding: chunked")
    answers = []
    for body in (b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", b"2\r\n{}\r\nzz\r\n\r\n"):
        async with await Wire.connect(gateway.port) as wire:
            await wire.send(head(SESSIONS, *lines, method="POST"))
            await asyncio.sleep(0.05)
            await wire.send(body)
            answers.append(await wire.answer())
    listed = await read(gateway, "/v1/sessions")

    assert answers[0].status == 201
    assert answers[1].status in (400, 408)
    assert [session["id"] for session in listed.json["sessions"]] == [answers[0].json["id"]]


@on_each_store
async def test_a_body_that_does_not_come_is_waited_for_as_long_as_a_head(root: Path) -> None:
    changes = with_agents(server={"header_timeout": "300ms"})
    async with running(root, changes) as gateway, await Wire.connect(gateway.port) as wire:
        lines = (f"X-API-Key: {ACME}", "Content-Length: 10")
        await wire.send(head(SESSIONS, *lines, method="POST") + b"{")

        answer = await wire.answer()
        _, end = await wire.rest()

    assert (answer.status, answer.json["error"]) == (408, "the body did not arrive in time")
    assert end == "closed"


@pytest.mark.parametrize("agent", ["agt_9", "..", "%00", "%ff", "a%2Fb", "a" * 4000])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_unknown_agent_is_not_found(gateway: Gateway, agent: str, method: str) -> None:
    answer = await send(gateway, f"/v1/agents/{agent}/sessions", b"", method=method)

    assert (answer.status, answer.json["error"]) == (404, "agent not found")


@on_each_store
async def test_scopes_are_needed(root: Path) -> None:
    keys = [
        key_entry(ACME, scopes=["sessions:read"]),
        key_entry(GLOBEX, id="w", scopes=["files:read"]),
    ]
    async with running(root, with_agents(auth={"keys": keys})) as gateway:
        may_read = [await read(gateway, target) for target in ("/v1/sessions", SESSIONS)]
        may_not = [
            await send(gateway, SESSIONS, {"nonsense": 1}),
            await send(gateway, "/api/v1/sessions/s1", method="PUT"),
            *[await read(gateway, t, GLOBEX) for t in ("/v1/sessions", SESSIONS, "/v1/sessions/x")],
        ]

    assert {answer.status for answer in may_read} == {200}
    assert {answer.status for answer in may_not} == {403}


@on_each_store
async def test_a_key_for_certain_sessions_makes_none(root: Path) -> None:
    """It could not see what it has made."""
    keys = [key_entry(ACME, scopes=["sessions:write"], sessions=["team-*"])]

    async with running(root, with_agents(auth={"keys": keys})) as gateway:
        assert (await send(gateway, SESSIONS)).status == 403

    assert [path.name for path in root.iterdir()] == ["s1"]


@pytest.mark.parametrize(
    ("target", "allowed"),
    [
        (SESSIONS, "GET,HEAD,POST"),
        ("/v1/sessions", "GET,HEAD"),
        ("/v1/sessions/x", "GET,HEAD"),
        ("/api/v1/sessions/x", "PUT"),
    ],
)
async def test_other_methods_are_told_what_is_allowed(
    gateway: Gateway, target: str, allowed: str
) -> None:
    for method in {"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"} - {*allowed.split(",")}:
        answer = await send(gateway, target, method=method)

        assert (answer.status, answer.header("Allow")) == (405, allowed)


# --- workspaces -----------------------------------------------------------------------------------


@on_each_store
async def test_there_is_no_zip_before_there_is_a_workspace(root: Path) -> None:
    """The executor cannot make it: whoever runs the agent does."""
    nobody = {"type": "firecracker", "url": "http://127.0.0.1:9", "workspaces": "/nowhere"}
    changes = with_agents(
        executors={"local": {"type": "local", "root": str(root)}, "fc": nobody},
        placement={"default": {"executor": "local"}},
    )
    async with running(root, changes) as gateway:
        session = await created(gateway)
        (root / session).rmdir()
        before = await read(gateway, f"/v1/sessions/{session}/workspace.zip")
        listing = await read(gateway, f"/api/v1/sessions/{session}/files")
        plant(root, {f"{session}/a": b"x"})
        after = await read(gateway, f"/v1/sessions/{session}/workspace.zip")

    message = "the session has no workspace yet; run it first, then retry"
    assert (before.status, before.json) == (409, {"error": message, "detail": message})
    assert (listing.status, listing.json) == (404, {"error": "session not found"})
    assert after.status == 200


@on_each_store
async def test_a_session_waits_for_a_workspace_that_nobody_here_can_make(root: Path) -> None:
    agent = {"version": "v", "executor": "fc"}
    nobody = {"type": "firecracker", "url": "http://127.0.0.1:9", "workspaces": "/nowhere"}
    changes = with_agents(
        agents={"agt_123": agent},
        executors={"local": {"type": "local", "root": str(root)}, "fc": nobody},
        placement={"default": {"executor": "local"}},
    )
    async with running(root, changes) as gateway:
        answer = await send(gateway, SESSIONS)
        waiting = await read(gateway, f"/v1/sessions/{answer.json['id']}")

    assert (answer.status, answer.json["status"]) == (201, "waiting")
    assert waiting.json["status"] == "waiting"
    assert [path.name for path in root.iterdir()] == ["s1"]


@on_each_store
async def test_a_sidecar_makes_the_workspace(root: Path, tmp_path: Path) -> None:
    scopes = ["sessions:write", "files:read", "archives:read"]
    there = tmp_path / "there"
    there.mkdir()
    token = tmp_path / "token"
    token.write_text("t" * 20)
    agents = {"agt_123": {"version": "v", "executor": "edge"}}
    async with running(there, {"auth": {"keys": [key_entry("t" * 20, scopes=scopes)]}}) as sidecar:
        edge = {
            "type": "gateway",
            "url": f"http://127.0.0.1:{sidecar.port}",
            "token": {"file": str(token)},
        }
        changes = with_agents(
            agents=agents,
            executors={"local": {"type": "local", "root": str(root)}, "edge": edge},
            placement={"default": {"executor": "local"}},
        )
        async with running(root, changes) as gateway:
            session = await created(gateway)
            plant(there, {f"{session}/a": b"x"})
            file = await read(gateway, f"/api/v1/sessions/{session}/files/a")

    assert (file.status, file.body) == (200, b"x")
    assert file.header("X-Workspace-Source") == "edge"
    assert stat.S_IMODE((there / session).stat().st_mode) == 0o700
    assert [path.name for path in root.iterdir()] == ["s1"]


@on_each_store
async def test_a_session_whose_workspace_could_not_be_made_is_none(root: Path) -> None:
    edge = {"type": "gateway", "url": "http://127.0.0.1:9"}
    changes = with_agents(
        agents={"agt_123": {"version": "v", "executor": "edge"}},
        executors={"local": {"type": "local", "root": str(root)}, "edge": edge},
        placement={"default": {"executor": "local"}},
    )
    async with running(root, changes) as gateway:
        answer = await send(gateway, SESSIONS)
        listed = await read(gateway, "/v1/sessions")

    assert answer.status == 502
    assert listed.json == {"sessions": [], "next_cursor": None}


@on_each_store
async def test_put_makes_a_workspace_once(gateway: Gateway, root: Path) -> None:
    answers = [await send(gateway, "/api/v1/sessions/s9", method="PUT") for _ in range(2)]

    assert [(answer.status, answer.body) for answer in answers] == [(204, b"")] * 2
    assert stat.S_IMODE((root / "s9").stat().st_mode) == 0o700


@pytest.mark.parametrize("there", ["a link", "a file"])
async def test_put_takes_nothing_elses_place(gateway: Gateway, root: Path, there: str) -> None:
    plant(root, {"s9": "/etc" if there == "a link" else b"x"})

    answer = await send(gateway, "/api/v1/sessions/s9", method="PUT")

    assert answer.status == 409
    assert answer.header("X-Workspace-Verdict") == "already_exists"


# --- lists ----------------------------------------------------------------------------------------


@on_each_store
async def test_sessions_are_listed_newest_first_in_pages(gateway: Gateway) -> None:
    ids = [await created(gateway) for _ in range(5)]
    for target in ("/v1/sessions", SESSIONS):
        seen, cursor = [], ""
        for _ in range(3):
            page = (await read(gateway, f"{target}?limit=2{cursor}")).json
            seen += [session["id"] for session in page["sessions"]]
            cursor = f"&cursor={page['next_cursor']}"

        assert seen == ids[::-1]
        assert page["next_cursor"] is None


@on_each_store
async def test_filters_match_exactly_and_all(gateway: Gateway) -> None:
    a = await created(gateway, {"metadata": {"kind": "x", "n": "1", "a b": "é&"}})
    b = await created(gateway, {"metadata": {"kind": "x", "n": "2"}})
    await created(gateway, {"metadata": {"Kind": "x"}})
    expected = {
        "metadata.kind=x": [b, a],
        "metadata.kind=x&metadata.n=1": [a],
        "metadata.kind=x&metadata.n=3": [],
        "metadata.kind=X": [],
        "metadata.kind=": [],
        "metadata.a%20b=%C3%A9%26": [a],
        "metadata.a+b=%C3%A9%26": [a],
        "metadata.kind=x%00": [],
        "metadata.kind=x%25": [],
        "metadata.=x": [],
    }

    for query, ids in expected.items():
        for target in ("/v1/sessions", SESSIONS):
            answer = await read(gateway, f"{target}?{query}")
            assert [session["id"] for session in answer.json["sessions"]] == ids, query


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("limit=1&limit=2", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=", "cursor"),
        ("cursor=%ff", "cursor"),
        ("metadata.k=a&metadata.k=b", "metadata.k"),
        ("metadata.k=%ff", "metadata.k"),
    ],
)
async def test_a_wrong_parameter_is_named(gateway: Gateway, query: str, name: str) -> None:
    for target in ("/v1/sessions", SESSIONS):
        answer = await read(gateway, f"{target}?{query}")

        assert answer.status == 400
        assert answer.json["error"].startswith(f"{name}:")
        assert answer.json["error"] == answer.json["detail"]


@on_each_store
async def test_head_is_get_without_a_body(gateway: Gateway) -> None:
    session = await created(gateway)
    for target in ("/v1/sessions", SESSIONS, f"/v1/sessions/{session}"):
        get, asked = await read(gateway, target), await read(gateway, target, method="HEAD")

        assert (asked.status, asked.body) == (200, b"")
        assert asked.header("Content-Length") == str(len(get.body))


@on_each_store
async def test_two_gateways_have_the_same_sessions(root: Path) -> None:
    async with running(root, with_agents()) as one, running(root, with_agents()) as other:
        session = await created(one)
        shown = await read(other, f"/v1/sessions/{session}")

    assert shown.json["id"] == session
