"""Tokens on the wire: who gets in with one, and what everybody else is told."""

import asyncio
import re
from contextlib import ExitStack
from itertools import cycle, product
from pathlib import Path

import pytest
from aiohttp import web

from gateway.telemetry import metrics
from tests.doubles.issuer import (
    Issuer,
    claims,
    issuer,
    jwk,
    key_set,
    private_key,
    section,
    token,
)
from tests.gateways import AUTH, Gateway, command, key_entry, plant, running
from tests.unit.auth.test_jwt import REFUSED
from tests.wire import Answer, Wire, ask

FILES = "/api/v1/sessions/s1/files"
ROUTES = (FILES, f"{FILES}/file", f"{FILES}/missing", "/api/v1/sessions/unknown/files")
MOMENTARY = ("Date", "X-Request-ID")


@pytest.fixture(autouse=True)
def file(root: Path) -> None:
    plant(root, {"s1/file": b"content", "team-a/file": b"theirs"})


@pytest.fixture
def jwks(tmp_path: Path) -> str:
    """A key set in a file."""
    path = tmp_path / "jwks.json"
    path.write_bytes(key_set())
    return str(path)


def told(answer: Answer) -> tuple[int, bytes, dict[str, str]]:
    """All of an answer but what differs from one to the next in any case."""
    headers = {name: value for name, value in answer.headers if name not in MOMENTARY}
    return answer.status, answer.body, headers


async def with_token(gateway: Gateway, text: str, target: str = FILES, **options: str) -> Answer:
    return await ask(gateway.port, target, f"Authorization: Bearer {text}", **options)


async def test_a_token_lists_and_downloads(root: Path, jwks: str) -> None:
    async with running(root, {"auth": {"jwt": section(jwks)}}) as gateway:
        listed = await with_token(gateway, token())
        got = await with_token(gateway, token(alg="ES256", kid="ec"), f"{FILES}/file")
        by_key = await gateway.file("file")

    assert [entry["path"] for entry in listed.json["files"]] == ["/file"]
    assert (got.status, got.body) == (200, b"content")
    assert by_key.status == 200


async def test_what_a_token_may_do(root: Path, jwks: str) -> None:
    changes = {"auth": {"keys": [], "jwt": section(jwks, claims={"sessions": "workspaces"})}}
    text = token(claims(workspaces=["team-*"]))
    scopeless = token(claims(scope="openid", workspaces=["*"]))
    async with running(root, changes) as gateway:
        theirs = await with_token(gateway, text, "/api/v1/sessions/team-a/files")
        foreign, unknown = [
            await with_token(gateway, text, f"/api/v1/sessions/{session}/files")
            for session in ("s1", "s9")
        ]
        refused = await with_token(gateway, scopeless)

    assert theirs.status == 200
    assert foreign.status == 404
    assert told(foreign) == told(unknown)
    assert (refused.status, refused.json) == (403, {"error": "this key lacks the scope files:read"})


async def test_every_token_that_is_refused_is_told_the_same_as_a_wrong_key(
    root: Path, jwks: str
) -> None:
    """On every route, each token asks for another one than the one before."""
    asked = cycle(product(ROUTES, ("GET", "HEAD")))
    async with (
        running(root, {"auth": {"jwt": section(jwks)}}) as gateway,
        await Wire.connect(gateway.port) as wire,
    ):
        wrong = {
            method: told(await wire.ask(FILES, "X-API-Key: wrong", method=method))
            for method in ("GET", "HEAD")
        }
        assert [status for status, *_ in wrong.values()] == [401, 401]
        for (what, (text, _)), (target, method) in zip(REFUSED.items(), asked, strict=False):
            line = f"Authorization: Bearer {text}"
            assert told(await wire.ask(target, line, method=method)) == wrong[method], what


async def test_why_a_token_was_refused_is_counted(root: Path, jwks: str) -> None:
    async with running(root, {"auth": {"jwt": section(jwks)}}) as gateway:
        for text, _ in REFUSED.values():
            await with_token(gateway, text)
    counted = re.findall(r'auth_failures_total\{reason="(token_\w+)"', metrics.expose().decode())

    assert set(counted) == {why for _, why in REFUSED.values() if why.startswith("token_")}


@pytest.mark.parametrize(
    "lines",
    [
        (f"X-API-Key: {token()}",),
        (f"X-API-Key: {token()}", f"Authorization: Bearer {token()}"),
        (AUTH, f"Authorization: Bearer {token()}"),
        (f"Authorization: Bearer {token()}", f"Authorization: Bearer {token()}"),
        (f"Authorization: Basic {token()}",),
        (f"Authorization: {token()}",),
        (f"Cookie: token={token()}",),
    ],
    ids=lambda lines: " + ".join(line[:20] for line in lines),
)
async def test_a_token_is_a_bearer_and_nothing_else(
    root: Path, jwks: str, lines: tuple[str, ...]
) -> None:
    async with running(root, {"auth": {"jwt": section(jwks)}}) as gateway:
        answer = await ask(gateway.port, f"{FILES}?access_token={token()}", *lines)

    assert answer.status == 401


async def test_without_an_issuer_a_token_is_a_wrong_key(root: Path) -> None:
    async with running(root) as gateway:
        answer = await with_token(gateway, token())

    assert answer.status == 401


async def test_a_foreign_key_that_looks_like_a_token_goes_into_its_own_header(
    root: Path, jwks: str
) -> None:
    foreign = token(key=private_key("RS256", "other"))
    changes = {"auth": {"keys": [key_entry(foreign)], "jwt": section(jwks)}}
    async with running(root, changes) as gateway:
        as_key = await ask(gateway.port, FILES, f"X-API-Key: {foreign}")
        as_bearer = await with_token(gateway, foreign)

    assert (as_key.status, as_bearer.status) == (200, 401)


async def test_guessing_tokens_is_throttled(root: Path, jwks: str) -> None:
    limits = {"auth_failures_per_minute": 5}
    async with running(root, {"auth": {"jwt": section(jwks)}, "limits": limits}) as gateway:
        guesses = [await with_token(gateway, token(kid=f"guess-{n}")) for n in range(8)]

    assert [answer.status for answer in guesses] == [401] * 5 + [429] * 3


async def test_a_subject_has_a_rate_of_its_own(root: Path, jwks: str) -> None:
    changes = {"auth": {"jwt": section(jwks)}, "limits": {"requests_per_minute": 2}}
    async with running(root, changes) as gateway:
        mine = [await with_token(gateway, token()) for _ in range(3)]
        other = await with_token(gateway, token(claims(sub="ben")))

    assert [answer.status for answer in (*mine, other)] == [200, 200, 429, 200]


async def test_nobody_waits_for_an_issuer_but_who_names_a_new_key(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        await released.wait()
        return web.Response(status=503)

    async with issuer(tmp_path) as there:
        monkeypatch.setenv("SSL_CERT_FILE", there.ca)
        async with running(root, {"auth": {"jwt": section(there.url)}}) as gateway:
            there.answer = slow
            async with asyncio.timeout(10):
                while there.asked == 1:  # a pause lies between two fetches
                    waiting = asyncio.ensure_future(with_token(gateway, token(kid="new")))
                    await asyncio.sleep(0.1)
            by_key, known = await gateway.files(), await with_token(gateway, token())
            assert not waiting.done()
            released.set()
            refused = await waiting

    assert (by_key.status, known.status, refused.status) == (200, 200, 401)


async def rotated(port: int, there: Issuer) -> None:
    """Return once a token by a key that is new is taken, ten seconds at most."""
    new = private_key("RS256", "other")
    there.document = key_set(jwk(new, "two"))
    line = f"Authorization: Bearer {token(kid='two', key=new)}"
    async with asyncio.timeout(10):
        while (await ask(port, FILES, line)).status != 200:
            await asyncio.sleep(0.1)


async def test_the_real_command_follows_its_issuer(tmp_path: Path, root: Path) -> None:
    """A rotation needs no reload; without any key in hand, tokens are nobody's fault."""
    good = f"Authorization: Bearer {token()}"
    async with issuer(tmp_path) as there:
        changes = {"auth": {"jwt": section(there.url)}}
        trusting = command(tmp_path, root, changes, environment={"SSL_CERT_FILE": there.ca})
        with ExitStack() as stack:
            process = await asyncio.to_thread(stack.enter_context, trusting)  # there has to answer
            before = await ask(process.port, FILES, good)
            await rotated(process.port, there)
            after = await ask(process.port, FILES, good)
        log = process.log.read_text()
        with ExitStack() as stack:
            process = await asyncio.to_thread(stack.enter_context, command(tmp_path, root, changes))
            unheard = [await ask(process.port, FILES, line) for line in (good, f"{good}x")]
            by_key = await ask(process.port, FILES, AUTH)

    assert (before.status, after.status, by_key.status) == (200, 401, 200)
    for answer in unheard:
        assert (answer.status, answer.header("Retry-After")) == (503, "10")
        assert answer.json == {"error": "the issuer's keys cannot be had; try again later"}
    assert '"key_id":"jwt:ana"' in log
    assert '"reason":"token_key"' in log
    assert "eyJ" not in log
