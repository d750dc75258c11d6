"""The issuer's keys over real HTTPS: they rotate, and their server is slow, down, or lies."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from joserfc.jwk import KeySet

from gateway.auth.jwks import NotFetched, fetching
from gateway.auth.trusted_keys import Pace, TrustedKeys, usable_keys
from gateway.config.jwt import MOST_JWKS
from gateway.domain.errors import IdentityUnavailable
from gateway.system.background import Background
from tests.doubles.issuer import Issuer, Private, hang, issuer, jwk, key_set, private_key
from tests.ports import free_port

ONE, TWO = jwk(private_key("RS256"), "one"), jwk(private_key("RS256", "other"), "two")
PACE = Pace(pause=0.1, refresh=60, retry=60, good=60)


@pytest.fixture
async def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Issuer]:
    """An issuer whose authority this machine trusts."""
    async with issuer(tmp_path) as double:
        monkeypatch.setenv("SSL_CERT_FILE", double.ca)
        yield double


@asynccontextmanager
async def trusting(place: str, pace: Pace = PACE) -> AsyncIterator[TrustedKeys]:
    async with fetching(place) as fetch, TrustedKeys.running(fetch, Background(), pace) as keys:
        yield keys


def kids(keys: KeySet) -> list[str | None]:
    return [key.kid for key in keys]


async def until(keys: TrustedKeys, expected: list[str], *, asking: bool = False) -> None:
    """Return once the keys are the *expected* ones, three seconds at most."""
    async with asyncio.timeout(3):
        while kids(await keys.renewed() if asking else keys.current()) != expected:
            await asyncio.sleep(0.01)


async def why_not(place: str) -> str:
    async with fetching(place) as fetch:
        with pytest.raises(NotFetched) as raised:
            usable_keys(await fetch())
    return str(raised.value)


async def test_keys_are_there_from_the_start(there: Issuer) -> None:
    async with trusting(there.url) as keys:
        assert kids(keys.current()) == ["one", "ec", "ed"]
    assert there.asked == 1


async def test_a_key_that_is_not_known_is_asked_for(there: Issuer) -> None:
    async with trusting(there.url) as keys:
        there.document = key_set(TWO)
        await until(keys, ["two"], asking=True)


async def test_keys_that_were_withdrawn_go_without_being_asked_for(there: Issuer) -> None:
    async with trusting(there.url, Pace(pause=0.01, refresh=0.05)) as keys:
        there.document = key_set(TWO)
        await until(keys, ["two"])


async def test_however_many_ask_there_is_one_fetch_and_a_pause(there: Issuer) -> None:
    async with trusting(there.url, Pace(pause=1.5)) as keys:
        at_once = time.monotonic()
        for _ in range(1000):
            await keys.renewed()
        assert time.monotonic() - at_once < 1
        assert there.asked == 1

        await asyncio.sleep(1.6)
        there.document = key_set(TWO)
        found = await asyncio.gather(*(keys.renewed() for _ in range(1000)))
        assert there.asked == 2
    assert {tuple(kids(keys)) for keys in found} == {("two",)}


async def test_who_leaves_takes_the_fetch_from_nobody(there: Issuer) -> None:
    """Or a client that comes and goes could keep a new key from being seen."""
    began, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        began.set()
        await go_on.wait()
        return web.Response(body=key_set(TWO))

    async with trusting(there.url) as keys:
        await asyncio.sleep(0.2)
        there.answer = slow
        first, second = (asyncio.ensure_future(keys.renewed()) for _ in range(2))
        await began.wait()
        first.cancel()
        go_on.set()

        assert kids(await second) == ["two"]
    assert there.asked == 2


async def test_whoever_knows_the_key_never_waits(there: Issuer) -> None:
    began = asyncio.Event()

    async def silent(request: web.Request) -> web.StreamResponse:
        began.set()
        return await hang(request)

    async with trusting(there.url) as keys:
        await asyncio.sleep(0.2)
        there.answer = silent
        waiting = asyncio.ensure_future(keys.renewed())
        await asyncio.wait_for(began.wait(), 5)

        assert there.asked == 2
        assert kids(keys.current()) == ["one", "ec", "ed"]
        assert not waiting.done()
        waiting.cancel()


async def test_a_slow_issuer_is_given_up(there: Issuer) -> None:
    """Also one whose head is fast."""

    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.05)

    async def slow(request: web.Request) -> web.StreamResponse:
        return await (hang if there.asked == 1 else trickle)(request)

    there.answer = slow
    began = time.monotonic()
    said = await asyncio.gather(why_not(there.url), why_not(there.url))

    assert said == ["no answer in time"] * 2
    assert 4 < time.monotonic() - began < 20


def saying(status: int = 200, body: bytes = b"", **headers: str) -> object:
    async def answer(request: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=body, headers=named)

    return answer


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(bytes(65536))


async def cut(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "100000"})
    await response.prepare(request)
    await response.write(key_set())
    assert request.transport is not None
    request.transport.abort()
    return response


LIES = {
    "an error": (saying(500), "the answer has the status 500"),
    "nothing": (saying(204), "the answer has the status 204"),
    "no such page": (saying(404, key_set()), "the answer has the status 404"),
    "elsewhere": (saying(302, Location="/elsewhere"), "the answer has the status 302"),
    "a partial answer": (saying(206, key_set()), "the answer has the status 206"),
    "endless": (endless, "the answer is too large"),
    "too large": (saying(200, b" " * MOST_JWKS + key_set()), "the answer is too large"),
    "cut": (cut, "cannot be reached: ClientPayloadError"),
    "empty": (saying(200), "it is not JSON"),
    "a page": (saying(200, b"<html>"), "it is not JSON"),
    "not UTF-8": (saying(200, b'{"keys": "\xff"}'), "it is not JSON"),
    "compressed": (saying(200, b"\x1f\x8b", Content_Encoding="gzip"), "it is not JSON"),
    "nested": (saying(200, b"[" * 100_000), "it is not JSON"),
    "a list": (saying(200, b"[]"), "it holds no usable key"),
    "no keys": (saying(200, b"{}"), "it holds no usable key"),
    "keys by name": (saying(200, b'{"keys": {}}'), "it holds no usable key"),
    "no key": (saying(200, b'{"keys": []}'), "it holds no usable key"),
}


@pytest.mark.parametrize("what", LIES)
async def test_what_is_no_key_set_changes_nothing(there: Issuer, what: str) -> None:
    answer, why = LIES[what]
    async with trusting(there.url) as keys:
        await asyncio.sleep(0.2)
        there.answer = answer  # type: ignore[assignment]  # a handler

        assert kids(await keys.renewed()) == ["one", "ec", "ed"]
        assert there.asked == 2
        assert await why_not(there.url) == why
        assert there.asked == 3  # no redirect was followed


def has_keys(keys: TrustedKeys) -> bool:
    """Whether those of the issuer are good now."""
    try:
        return kids(keys.current()) == ["one", "ec", "ed"]
    except IdentityUnavailable:
        return False


async def test_keys_stay_good_while_the_issuer_is_down_but_not_for_ever(there: Issuer) -> None:
    async with trusting(there.url, Pace(pause=0.01, refresh=0.05, retry=0.05, good=2)) as keys:
        there.answer = saying(503)  # type: ignore[assignment]  # a handler
        asked = there.asked
        async with asyncio.timeout(30):
            while there.asked < asked + 2:
                await asyncio.sleep(0.01)
            assert has_keys(keys)
            while has_keys(keys):
                await asyncio.sleep(0.01)
        with pytest.raises(IdentityUnavailable):
            await keys.renewed()

        there.answer = None
        async with asyncio.timeout(30):
            while not has_keys(keys):
                await asyncio.sleep(0.01)


async def test_an_issuer_that_is_down_at_the_start_is_asked_again(there: Issuer) -> None:
    there.answer = saying(503)  # type: ignore[assignment]  # a handler
    async with trusting(there.url, Pace(pause=0.01, retry=0.2)) as keys:
        with pytest.raises(IdentityUnavailable) as raised:
            keys.current()
        assert raised.value.message == "the issuer's keys cannot be had; try again later"

        there.answer = None
        async with asyncio.timeout(30):
            while not has_keys(keys):
                await asyncio.sleep(0.01)


async def test_nobody_listens() -> None:
    where = f"https://127.0.0.1:{free_port()}/jwks"

    assert await why_not(where) == "cannot be reached: ClientConnectorError"


async def test_an_authority_that_is_not_trusted_vouches_for_nobody(tmp_path: Path) -> None:
    async with issuer(tmp_path) as double:
        said = await why_not(double.url)

    assert said == "cannot be reached: ClientConnectorCertificateError"
    assert double.asked == 0


async def test_a_certificate_is_for_its_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with issuer(tmp_path, "localhost") as double:
        monkeypatch.setenv("SSL_CERT_FILE", double.ca)
        said = await why_not(double.url)

    assert said == "cannot be reached: ClientConnectorCertificateError"
    assert double.asked == 0


async def test_proxies_of_the_environment_are_not_asked(
    there: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")

    async with trusting(there.url) as keys:
        assert kids(keys.current()) == ["one", "ec", "ed"]


async def test_a_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_bytes(key_set(ONE))
    async with trusting(str(file)) as keys:
        file.write_bytes(key_set(TWO))
        await until(keys, ["two"], asking=True)

        file.unlink()
        await asyncio.sleep(0.2)
        assert kids(await keys.renewed()) == ["two"]
    assert await why_not(str(file)) == "the file cannot be read: No such file or directory"
    file.write_bytes(b" " * MOST_JWKS + key_set(ONE))
    assert await why_not(str(file)) == "the file is too large"


RSA, EC = private_key("RS256"), private_key("ES256")


def weak() -> Private:
    from cryptography.hazmat.primitives.asymmetric import rsa

    return rsa.generate_private_key(65537, 1024)


PASSED_OVER = {
    "symmetric": {"kty": "oct", "k": "c2VjcmV0", "kid": "x"},
    "of a kind to come": {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA", "kid": "x"},
    "for encryption": jwk(RSA, "x", use="enc"),
    "for something else": jwk(RSA, "x", use="tls"),
    "for encryption by its operations": jwk(RSA, "x", key_ops=["encrypt"]),
    "weak": jwk(weak(), "x"),
    "private": jwk(RSA, "x", d="AAAA"),
    "without a modulus": {"kty": "RSA", "e": "AQAB", "kid": "x"},
    "a modulus that is none": {**jwk(RSA, "x"), "n": "!" * 400},
    "a modulus that is a number": {**jwk(RSA, "x"), "n": 10**400},
    "an exponent that is none": {**jwk(RSA, "x"), "e": "AA"},
    "off the curve": {**jwk(EC, "x"), "x": "AAAA"},
    "of no curve": {**jwk(EC, "x"), "crv": "P-257"},
    "a curve that is a list": {**jwk(EC, "x"), "crv": ["P-256"]},
    "a kid that is a number": {**jwk(RSA, "x"), "kid": 5},
    "a kind that is a list": {"kty": ["RSA"], "kid": "x"},
    "no object": "x",
    "null": None,
}


@pytest.mark.parametrize("what", PASSED_OVER)
def test_what_cannot_check_signatures_is_passed_over(what: str) -> None:
    """The others of the set are used."""
    document = json.dumps({"keys": [PASSED_OVER[what], ONE]}).encode()

    assert kids(usable_keys(document)) == ["one"]
    with pytest.raises(NotFetched):
        usable_keys(json.dumps({"keys": [PASSED_OVER[what]]}).encode())
