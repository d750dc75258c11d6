"""Links: who may make them, what they give, and how they end."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.domain.model import Scope
from gateway.store.store import opened
from tests import stores
from tests.gateways import AUTH, Gateway, key_entry, plant, running
from tests.wire import Answer, Wire, ask, head

on_each_store = pytest.mark.usefixtures("each_store")

ALL = ["files:read", "archives:read", "links:write", "sessions:read"]
OTHER = "X-API-Key: sk_test_other"
CONTENT = b"0123456789" * 100
DEAD = b'{"error":"no such link"}'
KEYS = [
    key_entry(scopes=ALL),
    key_entry("sk_test_other", id="other", org="umbrella", scopes=ALL),
    key_entry("sk_test_files", id="files", scopes=["files:read", "links:write"]),
    key_entry("sk_test_reader", id="reader", scopes=["files:read", "archives:read"]),
    key_entry("sk_test_s1", id="s1", scopes=ALL, sessions=["s1"]),
]


def config(*keys: dict[str, Any], **server: Any) -> dict[str, Any]:
    return {"auth": {"keys": list(keys or KEYS)}, "server": server}


@pytest.fixture
async def gateway(root: Path) -> AsyncIterator[Gateway]:
    plant(root, {"s1/out/a.txt": CONTENT, "s1/b.bin": b"\0" * 10, "s2/c": b"c"})
    async with running(root, config()) as gateway:
        yield gateway


async def send(
    gateway: Gateway, target: str, body: bytes, *lines: str, method: str = "POST"
) -> Answer:
    async with await Wire.connect(gateway.port) as wire:
        length = f"Content-Length: {len(body)}"
        await wire.send(head(target, *lines, length, method=method) + body)
        return await wire.answer()


async def post(gateway: Gateway, body: object, *, key: str = AUTH, session: str = "s1") -> Answer:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return await send(gateway, f"/api/v1/sessions/{session}/links", raw, key)


async def link(gateway: Gateway, **body: object) -> dict[str, str]:
    answer = await post(gateway, body)
    assert answer.status == 201, answer.body
    made: dict[str, str] = answer.json
    return made


@on_each_store
async def test_a_link_gives_the_file_as_its_own_route_does(gateway):
    made = await link(gateway, path="out/a.txt")

    by_link = await ask(gateway.port, made["url"])
    by_key = await gateway.file("out/a.txt")

    assert by_link.status == 200
    assert by_link.body == CONTENT
    volatile = {"X-Request-ID", "Date"}
    assert {n: v for n, v in by_link.headers if n not in volatile} == {
        n: v for n, v in by_key.headers if n not in volatile
    }
    assert by_link.header("Referrer-Policy") == "no-referrer"


@on_each_store
async def test_ranges_conditions_and_resumes_work(gateway):
    made = await link(gateway, path="out/a.txt")
    etag = (await ask(gateway.port, made["url"], method="HEAD")).header("ETag")

    part = await ask(gateway.port, made["url"], "Range: bytes=990-", f"If-Range: {etag}")
    same = await ask(gateway.port, made["url"], f"If-None-Match: {etag}")
    beyond = await ask(gateway.port, made["url"], "Range: bytes=5000-")
    changed = await ask(gateway.port, made["url"], 'If-Match: "other"')

    assert (part.status, part.body) == (206, CONTENT[990:])
    assert (same.status, beyond.status, changed.status) == (304, 416, 412)


@pytest.mark.parametrize(
    ("archive", "query"),
    [
        (True, ""),
        ({}, ""),
        ({"format": "tar", "path": ["out"], "stored": True}, "?format=tar&path=out&stored=true"),
        (
            {"format": "tar.gz", "exclude": ["*.bin"], "gitignore": True},
            "?format=tar.gz&exclude=*.bin&gitignore=true",
        ),
    ],
)
async def test_a_link_gives_the_archive_as_its_own_route_does(gateway, archive, query):
    made = await link(gateway, archive=archive)

    by_link = await ask(gateway.port, made["url"])
    by_key = await gateway.ask(f"/api/v1/sessions/s1/archive{query}")

    assert by_link.status == 200
    assert by_link.body == by_key.body
    for name in ("ETag", "Content-Type", "Content-Disposition", "X-Archive-Entries"):
        assert by_link.header(name) == by_key.header(name)


@on_each_store
async def test_only_answers_with_content_take_a_use(gateway):
    made = await link(gateway, path="out/a.txt", max_uses=2)
    etag = (await ask(gateway.port, made["url"], method="HEAD")).header("ETag")
    for lines in ((f"If-None-Match: {etag}",), ("Range: bytes=5000-",), ('If-Match: "x"',)):
        assert (await ask(gateway.port, made["url"], *lines)).status in (304, 416, 412)

    uses = [
        await ask(gateway.port, made["url"]),
        # Else, all but the first byte could be had as often as one likes.
        await ask(gateway.port, made["url"], "Range: bytes=1-", f"If-Range: {etag}"),
        await ask(gateway.port, made["url"]),
    ]

    assert [use.status for use in uses] == [200, 206, 404]
    assert (await ask(gateway.port, made["url"], method="HEAD")).status == 404


@on_each_store
async def test_a_file_that_is_missing_takes_no_use(gateway, root):
    made = await link(gateway, path="later.txt", max_uses=1)

    before = await ask(gateway.port, made["url"])
    plant(root, {"s1/later.txt": b"here"})
    after = await ask(gateway.port, made["url"])

    assert (before.status, before.json) == (404, {"error": "file not found"})
    assert (after.status, after.body) == (200, b"here")


@on_each_store
async def test_at_the_same_moment_no_more_than_max_uses_get_it(gateway):
    made = await link(gateway, path="out/a.txt", max_uses=7)

    answers = await asyncio.gather(*(ask(gateway.port, made["url"]) for _ in range(30)))

    assert sorted(answer.status for answer in answers) == [200] * 7 + [404] * 23


@on_each_store
async def test_every_dead_ticket_looks_alike(gateway, root):
    used = await link(gateway, path="out/a.txt", max_uses=1)
    assert (await ask(gateway.port, used["url"])).status == 200
    revoked = await link(gateway, path="out/a.txt")
    assert (
        await send(gateway, f"/api/v1/links/{revoked['id']}", b"", AUTH, method="DELETE")
    ).status == 204
    expired = await link(gateway, path="out/a.txt", expires_in=1)
    await asyncio.sleep(1.1)

    dead = [used["url"], revoked["url"], expired["url"]]
    dead += ["/d/x", "/d/" + "A" * 32, "/d/" + "y" * 9000, "/d/%00", "/d/%ff%fe", "/d/%2e%2e"]
    answers = [await ask(gateway.port, url) for url in dead]
    heads = [await ask(gateway.port, url, method="HEAD") for url in dead]

    told = {
        (a.status, a.body, tuple((n, v) for n, v in a.headers if n not in ("Date", "X-Request-ID")))
        for a in answers
    }
    assert len(told) == 1
    assert (answers[0].status, answers[0].body) == (404, DEAD)
    assert {a.status for a in heads} == {404}


@pytest.mark.parametrize(
    "entry",
    [
        None,
        key_entry(scopes=["files:read"]),
        key_entry(scopes=["archives:read", "links:write"]),
        key_entry(scopes=ALL, sessions=["s2"]),
        key_entry(scopes=ALL, org="umbrella"),
        key_entry(scopes=ALL, expires="2020-01-01T00:00:00Z"),
    ],
    ids=["no key", "may make none", "may read none", "other session", "other org", "expired"],
)
async def test_a_link_is_dead_without_the_permission_of_its_maker(root, entry):
    plant(root, {"s1/a": b"a"})
    rest = key_entry("sk_test_rest", id="rest")
    async with running(root, config()) as gateway:
        made = await link(gateway, path="a")
        assert (await ask(gateway.port, made["url"])).status == 200

    async with running(root, config(rest, *([entry] if entry else []))) as gateway:
        answer = await ask(gateway.port, made["url"])

    assert (answer.status, answer.body) == (404, DEAD)


@pytest.mark.parametrize(("end", "what"), [("revoke", "sk_stored"), ("delete", "sess_1")])
async def test_a_link_ends_at_once_with_a_key_or_a_session_of_the_store(
    root, each_store, end, what
):
    """Whichever process ends it."""
    plant(root, {"sess_1/a": b"a"})
    scopes = frozenset({Scope.FILES_READ, Scope.LINKS_WRITE})
    async with running(root, config()) as gateway, opened(each_store) as store:
        await store.keys.create(stores.key("sk_stored", scopes=scopes))
        await store.sessions.create(stores.session(1))
        answer = await post(gateway, {"path": "a"}, key="X-API-Key: sk_stored", session="sess_1")
        before = await ask(gateway.port, answer.json["url"])
        assert await stores.said_by(stores.other_process(each_store, end, what)) == "True\n"
        after = await ask(gateway.port, answer.json["url"])

    assert (before.status, after.status, after.body) == (200, 404, DEAD)


@on_each_store
async def test_a_link_lives_no_longer_than_its_makers_key(root):
    plant(root, {"s1/a": b"a"})
    end = (datetime.now(UTC) + timedelta(minutes=5)).replace(microsecond=0)
    async with running(root, config(key_entry(scopes=ALL, expires=end.isoformat()))) as gateway:
        made = await link(gateway, path="a", expires_in=3600)

    assert made["expires_at"] == f"{end:%Y-%m-%dT%H:%M:%SZ}"


@pytest.mark.parametrize(
    ("key", "body", "status"),
    [
        ("X-API-Key: sk_test_reader", {"path": "a"}, 403),
        ("X-API-Key: sk_test_files", {"path": "a"}, 201),
        ("X-API-Key: sk_test_files", {"archive": True}, 403),
        ("X-API-Key: wrong", {"path": "a"}, 401),
    ],
)
async def test_a_link_needs_its_own_scope_and_that_of_what_it_gives(gateway, key, body, status):
    assert (await post(gateway, body, key=key)).status == status


@on_each_store
async def test_a_key_makes_links_for_the_sessions_it_may_see_only(gateway):
    answer = await post(gateway, {"path": "c"}, key="X-API-Key: sk_test_s1", session="s2")

    assert (answer.status, answer.json) == (404, {"error": "session not found"})


@on_each_store
async def test_the_links_of_another_organisation_do_not_exist(gateway):
    made = await link(gateway, path="out/a.txt")
    target = f"/api/v1/links/{made['id']}"

    foreign = await send(gateway, target, b"", OTHER, method="DELETE")
    unknown = await send(gateway, "/api/v1/links/lnk_0", b"", OTHER, method="DELETE")

    assert (foreign.status, foreign.body) == (unknown.status, unknown.body) == (404, DEAD)
    assert (await ask(gateway.port, made["url"])).status == 200


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({}, "body: needs either path or archive"),
        ({"path": "a", "archive": True}, "body: needs either path or archive"),
        ({"path": 1}, "path: must be a string"),
        ({"path": "../a"}, "invalid path: traversal not allowed"),
        ({"path": "/etc/passwd"}, "invalid path: absolute paths not allowed"),
        ({"path": "a/"}, "invalid path: a file's path is needed"),
        ({"path": "a" * 5000}, "path: must have 1 to 4095 characters"),
        ({"path": "a", "expires_in": 0}, "expires_in: must be from 1 to 604800"),
        ({"path": "a", "expires_in": True}, "expires_in: must be a whole number"),
        ({"path": "a", "expires_in": 1.5}, "expires_in: must be a whole number"),
        ({"path": "a", "max_uses": 0}, "max_uses: must be from 1 to 1000000"),
        ({"path": "a", "uses": 1}, "body: no field 'uses'"),
        ({"archive": False}, "archive: must be true or an object"),
        ({"archive": []}, "archive: must be true or an object"),
        ({"archive": {"paths": []}}, "archive: no field 'paths'"),
        ({"archive": {"format": "rar"}}, "format: must be zip, tar, tar.gz or tar.zst"),
        ({"archive": {"path": "out"}}, "path: must be a list of strings"),
        ({"archive": {"path": [".."]}}, "invalid path: traversal not allowed"),
        ({"archive": {"exclude": ["a" * 2000]}}, "exclude.0: must have 0 to 1024 characters"),
        ({"archive": {"stored": 1}}, "stored: must be true or false"),
        (b"[]", "body: must be a JSON object"),
        (b"{", "body: not valid JSON"),
        (b'{"path":"a","path":"b"}', "body: 'path' stands twice"),
        (b'{"path":"\\ud800"}', "path: must not hold a NUL character or half a surrogate pair"),
        (b'{"path":"a\\u0000"}', "path: must not hold a NUL character or half a surrogate pair"),
        (b'{"a":' * 20_000, "body: nested too deeply"),
        (b'{"expires_in":' + b"9" * 5000 + b',"path":"a"}', "body: not valid JSON"),
    ],
)  # fmt: skip
async def test_what_is_wrong_with_a_body_is_named(gateway, body, error):
    answer = await post(gateway, body)

    assert (answer.status, answer.json) == (400, {"error": error})


@on_each_store
async def test_a_huge_body_is_refused(gateway):
    assert (await post(gateway, b" " * 300_000)).status == 413


@on_each_store
async def test_a_host_header_has_no_say_in_where_a_link_leads(root):
    plant(root, {"s1/a": b"a"})
    lines = ("Host: evil.example", "X-Forwarded-Host: evil.example", AUTH)
    async with running(root, config()) as gateway:
        request = head("/api/v1/sessions/s1/links", *lines[1:], "Content-Length: 12", method="POST")
        async with await Wire.connect(gateway.port) as wire:
            await wire.send(request.replace(b"localhost", b"evil.example") + b'{"path":"a"}')
            bare = await wire.answer()
    async with running(root, config(public_url="https://files.example.com/ws")) as gateway:
        public = await link(gateway, path="a")

    assert re.fullmatch(r"/d/[A-Za-z0-9_-]{32}", bare.json["url"])
    assert re.fullmatch(r"https://files\.example\.com/ws/d/[A-Za-z0-9_-]{32}", public["url"])


@on_each_store
async def test_failed_tickets_are_throttled_by_address(root):
    plant(root, {"s1/a": b"a"})
    limits = {"limits": {"auth_failures_per_minute": 3}}
    async with running(root, {**config(), **limits}) as gateway:
        made = await link(gateway, path="a")
        failed = [(await ask(gateway.port, f"/d/{n}")).status for n in range(4)]
        good = await ask(gateway.port, made["url"])
        elsewhere = await ask(gateway.port, made["url"], client="127.0.0.2")

    assert failed == [404, 404, 404, 429]
    assert (good.status, elsewhere.status) == (429, 200)


@on_each_store
async def test_whoever_uses_a_link_does_not_use_up_its_makers_rate(root):
    plant(root, {"s1/a": b"a"})
    async with running(root, {**config(), "limits": {"requests_per_minute": 3}}) as gateway:
        made = await link(gateway, path="a")
        used = [(await ask(gateway.port, made["url"])).status for _ in range(4)]
        own = await gateway.file("a")

    assert used == [200, 200, 200, 429]
    assert own.status == 200


async def test_neither_key_nor_ticket_is_kept_or_logged(root, each_store, capfd):
    plant(root, {"s1/a": b"a"})
    async with running(root, config()) as gateway:
        made = await link(gateway, path="a")
        assert (await ask(gateway.port, made["url"])).status == 200
        assert (await ask(gateway.port, made["url"], method="POST")).status == 405
        metrics = (await ask(gateway.admin_port, "/metrics")).body.decode()
    ticket = made["url"].rpartition("/")[2]
    kept = stores.contents(each_store)

    out, err = capfd.readouterr()
    assert made["id"].encode() in kept
    for text in (out, err, metrics, kept.decode("latin-1")):
        assert ticket not in text
        assert AUTH.partition(": ")[2] not in text
    assert "/d/{ticket}" in out + err
    assert made["id"] in out + err


@on_each_store
async def test_other_methods_are_told_what_there_is(gateway):
    made = await link(gateway, path="out/a.txt")

    for target, allow in (
        (made["url"], "GET,HEAD"),
        (f"/api/v1/links/{made['id']}", "DELETE"),
        ("/api/v1/sessions/s1/links", "POST"),
    ):
        answer = await gateway.ask(target, method="PATCH")
        assert (answer.status, answer.header("Allow")) == (405, allow)
