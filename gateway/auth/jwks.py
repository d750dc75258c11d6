"""Fetches an issuer's key set, from a file or over HTTPS, and believes nothing it cannot check."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
from yarl import URL

from gateway.config.jwt import MOST_JWKS
from gateway.system.pool import Pool

Fetch = Callable[[], Awaitable[bytes]]
"""Gets the document as it is now; raises `NotFetched`."""

_DEADLINE_S = 5.0
_HEADERS = {
    "Accept": "application/jwk-set+json, application/json",
    "Accept-Encoding": "identity",
    "User-Agent": "workspace-gateway",
}


class NotFetched(Exception):
    """The key set cannot be had, or is none; the text says why."""


@asynccontextmanager
async def fetching(place: str) -> AsyncIterator[Fetch]:
    """How to fetch *place*, an absolute path or an https URL, which need not be there yet."""
    pool = Pool("jwks", 1)
    try:
        yield _from_file(place, pool) if place.startswith("/") else _from_url(place)
    finally:
        pool.shutdown(wait=False)


def _from_file(name: str, pool: Pool) -> Fetch:
    def read() -> bytes:
        with open(name, "rb") as file:
            return file.read(MOST_JWKS + 1)

    async def fetch() -> bytes:
        try:
            async with asyncio.timeout(_DEADLINE_S):
                document = await asyncio.wrap_future(pool.submit(read))
        except TimeoutError as exc:
            raise NotFetched("the file cannot be read in time") from exc
        except OSError as exc:
            raise NotFetched(f"the file cannot be read: {exc.strerror}") from exc
        if len(document) > MOST_JWKS:
            raise NotFetched("the file is too large")
        return document

    return fetch


def _from_url(place: str) -> Fetch:
    url, tls = URL(place), ssl.create_default_context()

    async def fetch() -> bytes:
        try:
            async with asyncio.timeout(_DEADLINE_S), _session(tls) as session:
                return await _document(session, url)
        except TimeoutError as exc:
            raise NotFetched("no answer in time") from exc
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise NotFetched(f"cannot be reached: {type(exc).__name__}") from exc

    return fetch


def _session(tls: ssl.SSLContext) -> aiohttp.ClientSession:
    # A connection for each fetch: they are rare, and what comes behind an answer is then nobody's.
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls, force_close=True),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        headers=_HEADERS,
    )


async def _document(session: aiohttp.ClientSession, url: URL) -> bytes:
    async with session.get(url, allow_redirects=False) as response:
        if response.status != 200:
            raise NotFetched(f"the answer has the status {response.status}")
        document = bytearray()
        async for chunk in response.content.iter_any():
            document += chunk
            if len(document) > MOST_JWKS:
                raise NotFetched("the answer is too large")
    return bytes(document)
