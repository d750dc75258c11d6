"""An issuer of tokens: real keys, any token however wrong, and its key set over HTTPS."""

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trustme
from aiohttp import web
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.doubles.serving import routed

NAME = "https://login.example.com/"
AUDIENCE = "workspace-gateway"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

_KEPT: dict[str, Private] = {}


def b64(data: bytes | str | object) -> str:
    """Base64url of bytes, of text, or of anything else as JSON."""
    if not isinstance(data, bytes):
        data = (data if isinstance(data, str) else json.dumps(data)).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def private_key(algorithm: str, which: str = "one") -> Private:
    """A key for *algorithm*, always the same for one *which*."""
    kind = algorithm[:2].replace("PS", "RS")
    if f"{kind} {which}" not in _KEPT:
        _KEPT[f"{kind} {which}"] = (
            ec.generate_private_key(ec.SECP256R1())
            if kind == "ES"
            else ed25519.Ed25519PrivateKey.generate()
            if kind == "Ed"
            else rsa.generate_private_key(65537, 2048)
        )
    return _KEPT[f"{kind} {which}"]


def jwk(key: Private, kid: str | None, **more: object) -> dict[str, object]:
    """The public half of *key* (RFC 7518 section 6, RFC 8037)."""

    def number(value: int) -> str:
        return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))

    public, named = key.public_key(), {} if kid is None else {"kid": kid}
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        return {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e), **named, **more}
    if isinstance(public, ec.EllipticCurvePublicKey):
        point = public.public_numbers()
        x, y = (b64(part.to_bytes(32, "big")) for part in (point.x, point.y))
        return {"kty": "EC", "crv": "P-256", "x": x, "y": y, **named, **more}
    return {"kty": "OKP", "crv": "Ed25519", "x": b64(public.public_bytes_raw()), **named, **more}


def pem(key: Private) -> bytes:
    """The public half of *key*, as it is published."""
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def signature(algorithm: str, key: Private | bytes, text: bytes) -> bytes:
    """What *algorithm* makes of *text*; with bytes for a key it is HMAC, whatever its name."""
    if isinstance(key, bytes):
        return hmac.digest(key, text, hashlib.sha256)
    if isinstance(key, rsa.RSAPrivateKey):
        pad: padding.AsymmetricPadding = padding.PKCS1v15()
        if algorithm == "PS256":
            pad = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size)
        return key.sign(text, pad, hashes.SHA256())
    if isinstance(key, ec.EllipticCurvePrivateKey):
        r, s = decode_dss_signature(key.sign(text, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return key.sign(text)


def claims(**changes: object) -> dict[str, object]:
    """Good ones, with *changes*; `...` takes one out."""
    now = int(time.time())
    good = {
        "iss": NAME,
        "aud": AUDIENCE,
        "sub": "ana",
        "org": "acme",
        "scope": "openid files:read",
        "iat": now,
        "exp": now + 3600,
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not ...}


def token(
    payload: object = None,
    *,
    alg: str = "RS256",
    kid: object = "one",
    key: Private | bytes | None = None,
    header: object = None,
    **more: object,
) -> str:
    """A token, good unless something is said; *more* goes into the header, `...` takes out.

    Text as *payload* or *header* is taken as it is.
    """
    if header is None:
        fields = {"alg": alg, "typ": "JWT", "kid": kid, **more}
        header = {name: value for name, value in fields.items() if value is not ...}
    text = f"{b64(header)}.{b64(claims() if payload is None else payload)}"
    return f"{text}.{b64(signature(alg, key or private_key(alg), text.encode()))}"


def key_set(*keys: Mapping[str, object]) -> bytes:
    """The document with *keys*, or with one of each kind."""
    one_each = [jwk(private_key(alg), kid) for alg, kid in (("RS256", "one"), ("ES256", "ec"))]
    return json.dumps({"keys": list(keys) or [*one_each, jwk(private_key("EdDSA"), "ed")]}).encode()


class Issuer:
    """Answers with *document*, unless *answer* does something else; *asked* counts."""

    def __init__(self) -> None:
        self.document = key_set()
        self.answer: Handler | None = None
        self.asked = 0
        self.url = ""
        self.ca = ""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        if self.answer is not None:
            return await self.answer(request)
        return web.Response(body=self.document, content_type="application/json")


@asynccontextmanager
async def issuer(tmp: Path, host: str = "127.0.0.1") -> AsyncIterator[Issuer]:
    """One that listens; `ca` names the file of the authority that vouches for it."""
    authority, double = trustme.CA(), Issuer()
    double.ca = str(tmp / "issuer-ca.pem")
    authority.cert_pem.write_to_path(double.ca)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(host).configure_cert(tls)
    app = routed(web.get("/jwks", double.serve), web.get("/elsewhere", double.serve))
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        double.url = f"https://127.0.0.1:{runner.addresses[0][1]}/jwks"
        yield double
    finally:
        await runner.cleanup()


async def hang(request: web.Request) -> web.StreamResponse:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


def section(jwks: str, **changes: Any) -> dict[str, Any]:
    """`auth.jwt` of a config that trusts the double."""
    return {"issuer": NAME, "audience": AUDIENCE, "jwks_url": jwks, **changes}
