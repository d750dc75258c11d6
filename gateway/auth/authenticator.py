"""Tells who holds a key, from the digests that the config lists."""

import hmac
from collections.abc import Iterable
from datetime import UTC, datetime

from gateway.auth.api_key import digest
from gateway.domain.errors import CredentialsRejected
from gateway.domain.model import Principal

_NOBODY: tuple[bytes, Principal | None] = (bytes(32), None)


class Authenticator:
    """Knows keys by their SHA-256; a key itself is never kept."""

    def __init__(self, keys: Iterable[tuple[bytes, Principal]]) -> None:
        self._holders: dict[bytes, tuple[bytes, Principal | None]] = {
            stored: (stored, principal) for stored, principal in keys
        }

    def identify(self, key: bytes) -> Principal:
        """The holder of *key*; raise `CredentialsRejected` if it is unknown or expired.

        The time taken does not depend on how much of a key is right: what is looked up is its
        digest, of which a caller cannot choose the first bytes, and the digest that was found (or
        a stand-in) is compared in constant time.
        """
        presented = digest(key)
        stored, principal = self._holders.get(presented, _NOBODY)
        if not hmac.compare_digest(presented, stored) or principal is None:
            raise CredentialsRejected("unknown")
        if principal.expires is not None and principal.expires <= datetime.now(UTC):
            raise CredentialsRejected("expired")
        return principal
