"""Bearer tokens: signed by the issuer that is trusted, for this gateway, and not out of date."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Self

from joserfc.errors import (
    ClaimError,
    ExpiredTokenError,
    InvalidClaimError,
    InvalidKeyIdError,
    JoseError,
)
from joserfc.jwa import JWSAlgModel
from joserfc.jwk import KeySet
from joserfc.jws import CompactSignature, JWSRegistry, extract_compact, validate_compact
from joserfc.jwt import JWTClaimsRegistry
from joserfc.util import urlsafe_b64decode

from gateway.auth.jwks import fetching
from gateway.auth.trusted_keys import TrustedKeys
from gateway.config.jwt import Jwt
from gateway.domain.errors import CredentialsRejected
from gateway.domain.model import Principal, Scope
from gateway.system.background import Background

_MOST_BYTES = 8 * 1024
_LONGEST_NAME = 255  # of a subject (OpenID Connect Core 1.0 section 2) or an organisation
_LATEST = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
_ALL_SESSIONS = ("*",)
_SCOPES = {str(scope): scope for scope in Scope}
_REASONS = {
    "iss": "token_issuer",
    "aud": "token_audience",
    "nbf": "token_not_yet_valid",
    "iat": "token_not_yet_valid",
}


class _Algorithms(JWSRegistry):
    """Those that are allowed, which have been checked already."""

    max_header_length = 4096  # some carry certificates or keys, which count for nothing here

    def get_alg(self, name: str) -> JWSAlgModel:
        # Not the inherited one: it warns of EdDSA each time.
        return self.algorithms[name]


class JwtTokens:
    """Judges tokens by *keys* and by what the config says; the text of none is kept or told."""

    def __init__(self, config: Jwt, keys: TrustedKeys) -> None:
        self._keys = keys
        self._allowed = config.algorithms
        self._registry = _Algorithms(algorithms=config.algorithms, strict_check_header=False)
        self._names = config.claims
        self._claims = JWTClaimsRegistry(
            leeway=round(config.leeway),
            iss={"essential": True, "value": config.issuer},
            aud={"essential": True, "value": config.audience},
            exp={"essential": True},
            sub={"essential": True},
        )

    @classmethod
    @asynccontextmanager
    async def running(cls, config: Jwt, background: Background) -> AsyncIterator[Self]:
        """Fetch the issuer's keys, now and as long as this is in use."""
        async with (
            fetching(config.jwks_url) as fetch,
            TrustedKeys.running(fetch, background) as keys,
        ):
            yield cls(config, keys)

    async def identify(self, token: bytes) -> Principal:
        """Whom *token* speaks for; raise `CredentialsRejected` or `IdentityUnavailable`.

        It waits, for seconds at most, only if it names a key that is not known yet.
        """
        signed = self._parsed(token)
        try:
            self._verify(signed, self._keys.current())
        except InvalidKeyIdError:
            try:
                self._verify(signed, await self._keys.renewed())
            except InvalidKeyIdError as exc:
                raise CredentialsRejected("token_key") from exc
        return self._principal(self._checked(signed.payload))

    def _parsed(self, token: bytes) -> CompactSignature:
        """The token's parts; nothing of them is true yet."""
        if len(token) > _MOST_BYTES:
            raise CredentialsRejected("token_too_large")
        try:
            header = _json_object(urlsafe_b64decode(token.partition(b".")[0]))
            if header.get("alg") not in self._allowed:
                raise CredentialsRejected("token_algorithm")
            if "crit" in header:  # none is understood here (RFC 7515 section 4.1.11)
                raise CredentialsRejected("token_crit")
            return extract_compact(token, registry=self._registry)
        except (JoseError, ValueError) as exc:
            raise CredentialsRejected("token_malformed") from exc

    def _verify(self, signed: CompactSignature, keys: KeySet) -> None:
        try:
            is_good = validate_compact(signed, keys, registry=self._registry)
        except InvalidKeyIdError:
            raise
        except JoseError as exc:
            raise CredentialsRejected("token_key") from exc
        if not is_good:
            raise CredentialsRejected("token_signature")

    def _checked(self, payload: bytes) -> Mapping[str, Any]:
        """The claims in *payload*, whose signature is good."""
        try:
            claims = _json_object(payload)
            self._claims.validate(claims)
        except ValueError as exc:
            raise CredentialsRejected("token_malformed") from exc
        except ExpiredTokenError as exc:
            raise CredentialsRejected("token_expired") from exc
        except InvalidClaimError as exc:
            raise CredentialsRejected(_REASONS.get(exc.claim, "token_claims")) from exc
        except ClaimError as exc:
            raise CredentialsRejected("token_claims") from exc
        return claims

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        names = self._names
        scopes = _words(claims.get(names.scopes, ""))
        return Principal(
            # No key of the config can have this id: it has a colon.
            f"jwt:{_name(claims['sub'])}",
            _name(claims.get(names.org)),
            frozenset(_SCOPES[word] for word in scopes if word in _SCOPES),
            _ALL_SESSIONS if names.sessions is None else _words(claims.get(names.sessions)),
            datetime.fromtimestamp(min(claims["exp"], _LATEST), UTC),
        )


def _name(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME or not value.isprintable():
        raise CredentialsRejected("token_claims")
    return value


def _words(value: object) -> tuple[str, ...]:
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise CredentialsRejected("token_claims")
    return tuple(words)


def _json_object(text: bytes) -> dict[str, Any]:
    """The object that *text* is; raise ValueError if it is none, or might be taken for another."""
    try:
        found = json.loads(text, object_pairs_hook=_without_duplicates)
    except RecursionError as exc:
        raise ValueError("is nested too deeply") from exc
    if not isinstance(found, dict):
        raise ValueError("is no object")  # noqa: TRY004  # it is the text that is wrong
    return found


def _without_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("has a name twice")
    return found
