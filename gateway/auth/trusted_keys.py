"""The public keys of an issuer: kept at hand, renewed on the way, good while it is down."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any, Self

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from joserfc.errors import JoseError
from joserfc.jwk import Key, KeySet, import_key

from gateway.auth.jwks import Fetch, NotFetched
from gateway.domain.errors import IdentityUnavailable
from gateway.system.background import Background

log = structlog.get_logger()

_KINDS = ("RSA", "EC", "OKP")
_SHORTEST_RSA = 2048  # bits; NIST SP 800-131A


@dataclass(frozen=True, slots=True)
class Pace:
    """How often the keys are fetched, in seconds, and how long they are good.

    *pause* is what lies between two fetches at least, whatever tokens ask for.
    """

    pause: float = 5.0
    refresh: float = 300.0
    retry: float = 10.0
    good: float = 3600.0


class TrustedKeys:
    """The keys of the last fetch that succeeded.

    One task does all the fetching, so that neither many who ask nor one who leaves while it is
    under way has a part in it.
    """

    def __init__(self, fetch: Fetch, pace: Pace) -> None:
        self._fetch = fetch
        self._pace = pace
        self._keys: KeySet | None = None
        self._good_until = 0.0
        self._may_ask = False
        self._wanted = asyncio.Event()
        self._settled = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def running(
        cls, fetch: Fetch, background: Background, pace: Pace = Pace()
    ) -> AsyncIterator[Self]:
        """Fetch, then yield, whether that succeeded or not; keep fetching until left."""
        keys = cls(fetch, pace)
        delay = await keys._renew()
        async with background.beside("auth.jwks", partial(keys._keep, delay)):
            yield keys

    def current(self) -> KeySet:
        """The keys at hand; raise `IdentityUnavailable` if there are none, or they are too old."""
        if self._keys is None or monotonic() > self._good_until:
            message = "the issuer's keys cannot be had; try again later"
            raise IdentityUnavailable(message, round(self._pace.retry))
        return self._keys

    async def renewed(self) -> KeySet:
        """The keys after another fetch, or at once if the last one was just now.

        Raises `IdentityUnavailable` like `current`.
        """
        if self._may_ask:
            self._may_ask = False
            self._settled.clear()
            self._wanted.set()
        await self._settled.wait()
        return self.current()

    async def _keep(self, delay: float) -> None:
        while True:
            await asyncio.sleep(self._pace.pause)
            self._may_ask = True
            try:
                async with asyncio.timeout(delay):
                    await self._wanted.wait()
            except TimeoutError:
                self._may_ask = False
                self._settled.clear()
            delay = await self._renew()

    async def _renew(self) -> float:
        """Fetch once; return how many seconds later to do it again, if nobody wants it sooner."""
        try:
            keys = usable_keys(await self._fetch())
        except NotFetched as exc:
            log.warning("jwks_not_fetched", reason=str(exc), has_keys=self._keys is not None)
            delay = self._pace.retry
        else:
            log.info("jwks_fetched", keys=len(keys.keys))
            self._keys, self._good_until = keys, monotonic() + self._pace.good
            delay = self._pace.refresh
        self._wanted.clear()
        self._settled.set()
        return delay


def usable_keys(document: bytes) -> KeySet:
    """The keys of a JSON Web Key Set that may check signatures; raise `NotFetched` without any.

    Others are passed over (RFC 7517 section 5): symmetric, private, weak or for encryption, of an
    unknown kind, malformed.
    """
    try:
        found = json.loads(document)
    except (ValueError, RecursionError) as exc:
        raise NotFetched("it is not JSON") from exc
    members = found.get("keys") if isinstance(found, dict) else None
    keys = [key for jwk in members if (key := _usable(jwk))] if isinstance(members, list) else []
    if not keys:
        raise NotFetched("it holds no usable key")
    return KeySet(keys)


def _usable(jwk: Any) -> Key | None:
    if not isinstance(jwk, dict) or jwk.get("kty") not in _KINDS or "d" in jwk:
        return None
    if jwk["kty"] == "RSA" and 6 * len(str(jwk.get("n"))) < _SHORTEST_RSA:
        return None
    try:
        key = import_key(jwk)
        key.check_use("sig")
        key.check_key_op("verify")
    except (JoseError, UnsupportedAlgorithm, ValueError, TypeError, LookupError):
        return None
    return key
