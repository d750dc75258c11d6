"""Asks one HTTP backend, and believes nothing of its answers that it has not checked."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self, TypeVar

import aiohttp
import orjson
from yarl import URL

from gateway.domain.errors import (
    AuthRejected,
    GatewayError,
    ProtocolFault,
    TimedOut,
    Unavailable,
    Unreachable,
)
from gateway.executors.engines.answering import bound_answers
from gateway.executors.engines.connecting import RemoteConfig, connector
from gateway.executors.engines.reply import Reply, end
from gateway.system.pool import Pool
from gateway.telemetry.correlation import REQUEST_ID, TRACEPARENT

T = TypeVar("T")

_PARSERS = 2  # compete with the loop for the GIL; not asyncio's own threads, where DNS waits
_READ_BUFFER = 32 * 1024  # bytes; aiohttp buffers up to twice as many per connection

Refusals = Mapping[int, Callable[[], GatewayError]]
"""Statuses that a backend's protocol gives a meaning of their own."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to the backend.

    *path* is percent-encoded already; whatever comes from a client or a workspace belongs into
    *query*, which is encoded here, or into *body*, which is sent as JSON.
    """

    method: str
    path: str
    query: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: object = None


class RestEngine:
    """The connections to one backend, and how its answers become verdicts."""

    def __init__(
        self, session: aiohttp.ClientSession, base: URL, headers: Mapping[str, str], parsers: Pool
    ) -> None:
        self._session = session
        self._base = base
        self._headers = headers
        self._parsers = parsers

    @classmethod
    @asynccontextmanager
    async def running(
        cls, config: RemoteConfig, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Self]:
        """Connect when asked to; *headers*, such as the credential, go with every request."""
        base, linked = connector(config)
        bound_answers(linked)
        async with aiohttp.ClientSession(
            connector=linked,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=config.timeout.connect),
            read_bufsize=_READ_BUFFER,
        ) as session:
            parsers = Pool("parse", _PARSERS)
            try:
                yield cls(
                    session,
                    base,
                    {
                        "Accept-Encoding": "identity",
                        "User-Agent": "workspace-gateway",
                        **(headers or {}),
                    },
                    parsers,
                )
            finally:
                parsers.shutdown(wait=False, cancel_futures=True)

    def at(self, base: URL) -> Self:
        """The same connections and headers, for a backend that is elsewhere."""
        return type(self)(self._session, base, self._headers, self._parsers)

    async def parsed(self, parse: Callable[..., T], *answer: object) -> T:
        """What *parse* makes of an *answer* that may be large: that is done off the loop."""
        return await asyncio.wrap_future(self._parsers.submit(parse, *answer))

    @asynccontextmanager
    async def ask(
        self, ask: Ask, expected: Collection[int] = (200,), refusals: Refusals | None = None
    ) -> AsyncIterator[Reply]:
        """Yield what `reply` gives, as long as it is needed."""
        with closing(await self.reply(ask, expected, refusals)) as reply:
            yield reply

    async def reply(
        self, ask: Ask, expected: Collection[int] = (200,), refusals: Refusals | None = None
    ) -> Reply:
        """Send *ask*; return the answer, to be closed, once its head is there with an *expected*
        status.

        Raises what *refusals* has for another status, `AuthRejected` for 401 and 403,
        `Unavailable` for 429 and 5xx, `Unreachable`, `TimedOut`, and `ProtocolFault` for all
        else: redirects are never followed.
        """
        response = await self._response(ask)
        try:
            if response.status in expected:
                return Reply(response, self._parsers)
            known = (refusals or {}).get(response.status, partial(refusal, response.status))
            raise known()
        except BaseException:
            end(response)
            raise

    async def _response(self, ask: Ask) -> aiohttp.ClientResponse:
        query = URL.build(query=ask.query).raw_query_string if ask.query else ""
        url = URL.build(
            scheme=self._base.scheme,
            authority=self._base.raw_authority,
            path=self._base.raw_path.rstrip("/") + ask.path,
            query_string=query,
            encoded=True,
        )
        headers = {**self._headers, **_correlation(), **ask.headers}
        body = None
        if ask.body is not None:
            body = orjson.dumps(ask.body)
            headers["Content-Type"] = "application/json"
        try:
            return await self._session.request(
                ask.method, url, headers=headers, data=body, allow_redirects=False
            )
        except (aiohttp.ServerTimeoutError, TimeoutError) as exc:
            raise TimedOut("the executor did not answer in time") from exc
        except aiohttp.ClientConnectorError as exc:
            raise Unreachable("the executor cannot be reached") from exc
        except (aiohttp.ClientConnectionError, OSError) as exc:
            # Not unreachable: the request may be what brought the backend down.
            raise Unavailable("the executor hung up") from _for_logs(exc)
        except (aiohttp.ClientError, ValueError) as exc:
            raise ProtocolFault("the executor's answer is malformed") from _for_logs(exc)


def _for_logs(exc: Exception) -> Exception:
    # aiohttp's own have the request's headers in them, and so the credential, or all of the answer.
    return exc if isinstance(exc, OSError) else ValueError(type(exc).__name__)


def refusal(status: int) -> GatewayError:
    """What *status* means where the backend's protocol gives it no meaning of its own."""
    cause = ValueError(f"status {status}")
    error: GatewayError
    if status in (401, 403):
        error = AuthRejected("the executor refuses the gateway's credential")
    elif status == 429 or status >= 500:
        error = Unavailable("the executor failed")
    else:
        error = ProtocolFault("the executor's answer was not understood")
    error.__cause__ = cause
    return error


def _correlation() -> dict[str, str]:
    known: dict[str, Any] = {
        "X-Request-ID": REQUEST_ID.get(),
        "traceparent": TRACEPARENT.get(),
    }
    return {name: value for name, value in known.items() if value is not None}
