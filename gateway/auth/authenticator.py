"""Tells who presents a credential: the holder of a key, or whom a token was issued to."""

import hmac
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from gateway.auth.api_key import digest, is_mistyped
from gateway.domain.errors import CredentialsRejected
from gateway.domain.model import Principal

# A JSON object in base64url begins with `e`, and then `y` for a quote or a blank, or `w` for
# another white space: a key of ours, whose id may have dots, is never taken for a token.
_TOKEN = re.compile(rb"e[wy][\w-]*\.[\w-]*\.[\w-]*")
_NOBODY: tuple[bytes, Principal | None] = (bytes(32), None)


class Credential(NamedTuple):
    """What a request presents; *is_bearer*: in `Authorization: Bearer`, and nowhere else."""

    value: bytes
    is_bearer: bool


class KeySource(Protocol):
    """Knows the holders of keys, by the SHA-256 of each; a key itself is never kept."""

    async def holder(self, key_digest: bytes) -> Principal | None:
        """Whose key this is, expired or not; None if it is not known here.

        Raises a `RetryLater` if that cannot be told now.
        """


class Tokens(Protocol):
    """Knows whom tokens were issued to."""

    async def identify(self, token: bytes) -> Principal:
        """Whom *token* speaks for; raise `CredentialsRejected` or `IdentityUnavailable`."""


class ConfigKeys:
    """The keys that the config lists."""

    def __init__(self, keys: Iterable[tuple[bytes, Principal]]) -> None:
        self._holders: dict[bytes, tuple[bytes, Principal | None]] = {
            stored: (stored, principal) for stored, principal in keys
        }

    async def holder(self, key_digest: bytes) -> Principal | None:
        """Whose key this is.

        The time taken does not depend on how much of a key is right: what is looked up is its
        digest, of which a caller cannot choose the first bytes, and the digest that was found (or
        a stand-in) is compared in constant time.
        """
        stored, principal = self._holders.get(key_digest, _NOBODY)
        return principal if hmac.compare_digest(key_digest, stored) else None


class Authenticator:
    """Asks the *sources* of keys in turn; *tokens*, if there are any, about what looks like one."""

    def __init__(self, sources: Sequence[KeySource], tokens: Tokens | None = None) -> None:
        self._sources = sources
        self._tokens = tokens

    async def identify(self, credential: Credential) -> Principal:
        """Who presents *credential*; raise `CredentialsRejected` if it is unknown or expired.

        Raises a `RetryLater` if that cannot be told now.
        """
        key = credential.value
        if self._tokens is not None and credential.is_bearer and _TOKEN.fullmatch(key):
            return await self._tokens.identify(key)
        key_digest = digest(key)
        for source in self._sources:
            principal = await source.holder(key_digest)
            if principal is not None:
                break
        else:
            raise CredentialsRejected("mistyped" if is_mistyped(key) else "unknown")
        if principal.expires is not None and principal.expires <= datetime.now(UTC):
            raise CredentialsRejected("expired")
        return principal
