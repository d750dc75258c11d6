"""Tokens: whose are good, and every way in which one can be wrong."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.auth.jwt import JwtTokens
from gateway.config.jwt import Jwt
from gateway.domain.errors import CredentialsRejected
from gateway.domain.model import Principal, Scope
from gateway.system.background import Background
from tests.doubles.issuer import (
    AUDIENCE,
    NAME,
    b64,
    claims,
    jwk,
    key_set,
    pem,
    private_key,
    section,
    signature,
    token,
)

NOW = int(time.time())
OTHER = private_key("RS256", "other")
GOOD = token()
HEADER, PAYLOAD, SIGNATURE = GOOD.split(".")
PUBLIC = pem(private_key("RS256"))


@asynccontextmanager
async def judging(
    tmp: Path, document: bytes | None = None, **changes: Any
) -> AsyncIterator[JwtTokens]:
    """Tokens by the key set *document*, in a file; *changes* go over the config."""
    file = tmp / "jwks.json"
    file.write_bytes(document or key_set())
    config = Jwt.model_validate_json(json.dumps(section(str(file), **changes)), strict=True)
    async with JwtTokens.running(config, Background()) as tokens:
        yield tokens


async def judged(tmp: Path, text: str, document: bytes | None = None, **changes: Any) -> Principal:
    async with judging(tmp, document, **changes) as tokens:
        return await tokens.identify(text.encode())


async def reason(tmp: Path, text: str, document: bytes | None = None, **changes: Any) -> str:
    """Why *text* is refused."""
    with pytest.raises(CredentialsRejected) as rejected:
        await judged(tmp, text, document, **changes)
    assert rejected.value.message == CredentialsRejected("unknown").message
    return rejected.value.reason


async def test_a_token_says_who_it_is(tmp_path: Path) -> None:
    principal = await judged(tmp_path, token(claims(exp=NOW + 3600)))

    assert principal == Principal("jwt:ana", "acme", frozenset({Scope.FILES_READ}))
    assert principal.expires == datetime.fromtimestamp(NOW + 3600, UTC)


@pytest.mark.parametrize(
    ("alg", "kid"), [("RS256", "one"), ("ES256", "ec"), ("EdDSA", "ed"), ("Ed25519", "ed")]
)
async def test_the_usual_algorithms_need_not_be_named(tmp_path: Path, alg: str, kid: str) -> None:
    assert (await judged(tmp_path, token(alg=alg, kid=kid))).key_id == "jwt:ana"


async def test_other_algorithms_must_be_named(tmp_path: Path) -> None:
    text = token(alg="PS256")

    assert await reason(tmp_path, text) == "token_algorithm"
    assert (await judged(tmp_path, text, algorithms=["PS256"])).org == "acme"
    assert await reason(tmp_path, GOOD, algorithms=["PS256"]) == "token_algorithm"


ACCEPTED = {
    "several audiences": token(claims(aud=["other", AUDIENCE])),
    "a claim that nobody knows": token(claims(nested={"a": [{}]}, number=1e300)),
    "fractions of a second": token(claims(exp=NOW + 3600.5)),
    "an end that no calendar has": token(claims(exp=10**18)),
    "jku": token(jku="https://attacker.example/jwks"),
    "x5u": token(x5u="https://attacker.example/cert"),
    "x5c": token(x5c=["MIIB"]),
    "jwk": token(jwk=jwk(OTHER, "one")),
    "a header that nobody knows": token(weather="fine"),
    "another type": token(typ="at+jwt"),
    "no type": token(typ=...),
}


@pytest.mark.parametrize("what", ACCEPTED)
async def test_what_does_not_matter(tmp_path: Path, what: str) -> None:
    assert (await judged(tmp_path, ACCEPTED[what])).org == "acme"


def forged(header: object, payload: object, key: Any = b"x", alg: str = "HS256") -> str:
    """Any header over any payload; *alg* is what really signs."""
    return token(payload, header=header, key=key, alg=alg)


REFUSED = {
    # none, in every spelling
    "none": (f"{b64({'alg': 'none'})}.{PAYLOAD}.", "token_algorithm"),
    "none, signed": (forged({"alg": "none", "kid": "one"}, claims()), "token_algorithm"),
    "None": (f"{b64({'alg': 'None', 'kid': 'one'})}.{PAYLOAD}.", "token_algorithm"),
    "nOnE": (f"{b64({'alg': 'nOnE', 'kid': 'one'})}.{PAYLOAD}.", "token_algorithm"),
    "no algorithm": (forged({"kid": "one"}, claims()), "token_algorithm"),
    "algorithm null": (forged({"alg": None, "kid": "one"}, claims()), "token_algorithm"),
    "algorithm list": (forged({"alg": ["RS256"], "kid": "one"}, claims()), "token_algorithm"),
    "algorithm object": (forged({"alg": {}, "kid": "one"}, claims()), "token_algorithm"),
    "algorithm in small": (forged({"alg": "rs256", "kid": "one"}, claims()), "token_algorithm"),
    # the public key as a shared secret
    "HS256 with the public key": (
        forged({"alg": "HS256", "kid": "one"}, claims(), PUBLIC),
        "token_algorithm",
    ),
    "HS256 with the modulus": (
        forged({"alg": "HS256", "kid": "one"}, claims(), str(jwk(OTHER, "x")["n"]).encode()),
        "token_algorithm",
    ),
    "HMAC called RS256": (
        forged({"alg": "RS256", "kid": "one"}, claims(), PUBLIC),
        "token_signature",
    ),
    "HMAC called ES256": (
        forged({"alg": "ES256", "kid": "ec"}, claims(), PUBLIC),
        "token_signature",
    ),
    # a key of another kind
    "RS256 by the curve": (token(alg="RS256", kid="ec"), "token_key"),
    "ES256 by RSA": (token(alg="ES256", kid="one"), "token_key"),
    "EdDSA by RSA": (token(alg="EdDSA", kid="one"), "token_key"),
    # another signature
    "somebody else's": (token(key=OTHER), "token_signature"),
    "somebody else's, enclosed": (token(key=OTHER, jwk=jwk(OTHER, "one")), "token_signature"),
    "somebody else's, elsewhere": (
        token(key=OTHER, jku="https://attacker.example/jwks"),
        "token_signature",
    ),
    "another payload": (f"{HEADER}.{b64(claims(org='globex'))}.{SIGNATURE}", "token_signature"),
    "another header": (
        f"{b64({'alg': 'RS256', 'kid': 'one'})}.{PAYLOAD}.{SIGNATURE}",
        "token_signature",
    ),
    "no signature": (f"{HEADER}.{PAYLOAD}.", "token_signature"),
    "a cut signature": (GOOD[:-4], "token_signature"),
    "a longer signature": (f"{GOOD}AAAA", "token_signature"),
    "a blank signature": (
        f"{b64({'alg': 'ES256', 'kid': 'ec'})}.{PAYLOAD}.{b64(bytes(64))}",
        "token_signature",
    ),
    "not the shortest base64": (GOOD[:-1] + chr(ord(GOOD[-1]) + 1), "token_signature"),
    # kids
    "unknown": (token(kid="two"), "token_key"),
    "none of many": (token(kid=...), "token_key"),
    "a path": (token(kid="../../../../etc/passwd"), "token_key"),
    "a device": (forged({"alg": "RS256", "kid": "/dev/null"}, claims()), "token_key"),
    "SQL": (token(kid="one' OR '1'='1"), "token_key"),
    "a URL": (token(kid="https://attacker.example/key"), "token_key"),
    "a NUL": (token(kid="one\0"), "token_key"),
    "empty": (token(kid=""), "token_key"),
    "a number": (token(kid=1), "token_key"),
    "a list": (token(kid=["one"]), "token_key"),
    "null": (token(kid=None), "token_key"),
    "another case": (token(kid="ONE"), "token_key"),
    # the form
    "critical": (token(crit=["exp"], exp=1), "token_crit"),
    "critical, empty": (token(crit=[]), "token_crit"),
    "not encoded": (token(b64=False, crit=["b64"]), "token_crit"),
    "not encoded, not critical": (token(b64=False), "token_malformed"),
    "an algorithm twice": (
        token(header='{"alg":"RS256","kid":"one","alg":"none"}'),
        "token_malformed",
    ),
    "a kid twice": (token(header='{"alg":"RS256","kid":"x","kid":"one"}'), "token_malformed"),
    "a claim twice": (
        token(json.dumps(claims())[:-1] + ', "org": "globex"}'),
        "token_malformed",
    ),
    "a nested name twice": (
        token(json.dumps(claims())[:-1] + ', "a": {"b": 1, "b": 2}}'),
        "token_malformed",
    ),
    "header no JSON": (token(header="{alg"), "token_malformed"),
    "header not UTF-8": (
        f"{b64(b'{' + bytes([34, 255]))}.{PAYLOAD}.{SIGNATURE}",
        "token_malformed",
    ),
    "header a list": (token(header='["alg"]'), "token_malformed"),
    "header a text": (token(header='"alg"'), "token_malformed"),
    "header nested": (token(header='{"a":' * 500), "token_malformed"),
    "header too long": (token(weather="x" * 5000), "token_malformed"),
    "payload no JSON": (token("org"), "token_malformed"),
    "payload a list": (token("[]"), "token_malformed"),
    "payload nested": (token("[" * 4500), "token_malformed"),
    "payload cut": (token(json.dumps(claims())[:-1]), "token_malformed"),
    "payload empty": (token(""), "token_malformed"),
    "a number of many digits": (
        token(json.dumps(claims(exp=...))[:-1] + f', "exp": {"9" * 4301}}}'),
        "token_malformed",
    ),
    "two parts": (f"{HEADER}.{PAYLOAD}", "token_malformed"),
    "four parts": (f"{GOOD}.{SIGNATURE}", "token_malformed"),
    "encrypted": (f"{b64({'alg': 'RSA-OAEP', 'enc': 'A256GCM'})}.a.b.c.d", "token_algorithm"),
    "padded": (f"{HEADER}=.{PAYLOAD}.{SIGNATURE}", "token_malformed"),
    "huge": (token(claims(more="x" * 8192)), "token_too_large"),
    # whose, for whom, when
    "another issuer": (token(claims(iss="https://attacker.example/")), "token_issuer"),
    "almost the issuer": (token(claims(iss=NAME.rstrip("/"))), "token_issuer"),
    "issuers": (token(claims(iss=[NAME])), "token_issuer"),
    "no issuer": (token(claims(iss=...)), "token_claims"),
    "another audience": (token(claims(aud="billing")), "token_audience"),
    "other audiences": (token(claims(aud=["billing", AUDIENCE.upper()])), "token_audience"),
    "part of the audience": (token(claims(aud=f"{AUDIENCE}-2")), "token_audience"),
    "no audiences": (token(claims(aud=[])), "token_audience"),
    "audiences of any kind": (token(claims(aud=[AUDIENCE, 1])), "token_audience"),
    "an audience with more": (token(claims(aud={AUDIENCE: 1})), "token_audience"),
    "no audience": (token(claims(aud=...)), "token_claims"),
    "expired": (token(claims(exp=NOW - 60)), "token_expired"),
    "expired long ago": (token(claims(exp=-1)), "token_expired"),
    "no end": (token(claims(exp=...)), "token_claims"),
    "end null": (token(claims(exp=None)), "token_claims"),
    "end text": (token(claims(exp=str(NOW + 3600))), "token_claims"),
    "end true": (token(claims(exp=True)), "token_claims"),
    "end NaN": (token(claims(exp=float("nan"))), "token_claims"),
    "end infinite": (token(claims(exp=float("inf"))), "token_claims"),
    "end beyond numbers": (
        token(json.dumps(claims(exp=...))[:-1] + ', "exp": 1e999}'),
        "token_claims",
    ),
    "not yet": (token(claims(nbf=NOW + 10**6)), "token_not_yet_valid"),
    "from the future": (token(claims(iat=NOW + 10**6)), "token_not_yet_valid"),
    "a beginning in words": (token(claims(nbf="now")), "token_not_yet_valid"),
    # who
    "nobody": (token(claims(sub=...)), "token_claims"),
    "a nameless one": (token(claims(sub="")), "token_claims"),
    "a number of a subject": (token(claims(sub=5)), "token_claims"),
    "a subject of two lines": (token(claims(sub="ana\nroot")), "token_claims"),
    "a long subject": (token(claims(sub="a" * 256)), "token_claims"),
    "no organisation": (token(claims(org=...)), "token_claims"),
    "an empty organisation": (token(claims(org="")), "token_claims"),
    "organisations": (token(claims(org=["acme"])), "token_claims"),
    "organisation null": (token(claims(org=None)), "token_claims"),
    "scopes a number": (token(claims(scope=1)), "token_claims"),
    "scopes an object": (token(claims(scope={"files:read": True})), "token_claims"),
    "scopes of any kind": (token(claims(scope=["files:read", 1])), "token_claims"),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_is_refused(tmp_path: Path, what: str) -> None:
    text, why = REFUSED[what]

    assert await reason(tmp_path, text) == why


async def test_a_token_without_a_kid_is_by_the_only_key(tmp_path: Path) -> None:
    document = key_set(jwk(private_key("RS256"), "one"))

    assert (await judged(tmp_path, token(kid=...), document)).org == "acme"
    assert await reason(tmp_path, token(kid=..., key=OTHER), document) == "token_signature"


@pytest.mark.parametrize("leeway", ["0s", "120s"])
async def test_how_far_the_clocks_may_differ(tmp_path: Path, leeway: str) -> None:
    now = int(time.time())
    late, early = token(claims(exp=now - 60)), token(claims(nbf=now + 60))

    if leeway == "120s":
        assert (await judged(tmp_path, late, leeway=leeway)).org == "acme"
        assert (await judged(tmp_path, early, leeway=leeway)).org == "acme"
    else:
        assert await reason(tmp_path, late, leeway=leeway) == "token_expired"
        assert await reason(tmp_path, early, leeway=leeway) == "token_not_yet_valid"


@pytest.mark.parametrize(
    ("given", "scopes"),
    [
        ("files:read archives:read", {Scope.FILES_READ, Scope.ARCHIVES_READ}),
        (["files:read", "archives:read"], {Scope.FILES_READ, Scope.ARCHIVES_READ}),
        ("  openid\tfiles:read profile ", {Scope.FILES_READ}),
        (["openid", "FILES:READ", "files:read,archives:read"], set()),
        (["files:read archives:read"], set()),
        ("admin", {Scope.ADMIN}),
        ("", set()),
        ([], set()),
        (..., set()),
    ],
)
async def test_scopes_that_are_not_known_here_count_for_nothing(
    tmp_path: Path, given: object, scopes: set[Scope]
) -> None:
    principal = await judged(tmp_path, token(claims(scope=given)))

    assert principal.scopes == scopes


NAMED = {"org": "https://acme.example/org", "scopes": "permissions", "sessions": "workspaces"}


@pytest.mark.parametrize(
    ("patterns", "sees"),
    [
        (["team-*", "s1"], {"team-a", "s1"}),
        ("team-* s1", {"team-a", "s1"}),
        (["*"], {"team-a", "s1", "other"}),
        ([], set()),
    ],
)
async def test_the_config_names_the_claims(
    tmp_path: Path, patterns: object, sees: set[str]
) -> None:
    given = {NAMED["org"]: "acme", "permissions": ["files:read"], "workspaces": patterns}

    principal = await judged(tmp_path, token(claims(org="globex", **given)), claims=NAMED)

    assert (principal.org, principal.scopes) == ("acme", {Scope.FILES_READ})
    assert {name for name in ("team-a", "s1", "other") if principal.may_see(name)} == sees


@pytest.mark.parametrize("sessions", [..., None, 1, {}, ["s1", None]])
async def test_sessions_that_are_to_be_named_must_be(tmp_path: Path, sessions: object) -> None:
    """A token that lost the claim must not see more for it."""
    text = token(claims(workspaces=sessions))

    assert await reason(tmp_path, text, claims={"sessions": "workspaces"}) == "token_claims"


async def test_nothing_of_a_token_is_logged_or_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with judging(tmp_path) as tokens:
        for text, _ in REFUSED.values():
            with pytest.raises(CredentialsRejected) as rejected:
                await tokens.identify(text.encode())
            assert PAYLOAD not in str(rejected.value)

    assert "eyJ" not in "".join(capfd.readouterr())


def test_the_double_signs_as_others_do() -> None:
    """Or a refusal would prove nothing."""
    text = f"{HEADER}.{PAYLOAD}".encode()

    assert b64(signature("RS256", private_key("RS256"), text)) == SIGNATURE
