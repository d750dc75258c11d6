"""Asks one HTTP backend, and believes nothing of its answers that it has not checked."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self, TypeVar

import aiohttp
import orjson
from pydantic import TypeAdapter, ValidationError
from yarl import URL

from gateway.domain.errors import (
    AuthRejected,
    GatewayError,
    ProtocolFault,
    StreamBroken,
    TimedOut,
    Unavailable,
    Unreachable,
)
from gateway.executors.engines.answering import bound_answers
from gateway.executors.engines.connecting import RemoteConfig, connector
from gateway.executors.engines.inflow import SocketInflow
from gateway.executors.streams import Inflow
from gateway.telemetry.correlation import REQUEST_ID, TRACEPARENT

T = TypeVar("T")

_READ_BUFFER = 32 * 1024  # bytes; aiohttp buffers up to twice as many per connection
_WORTH_A_CONNECTION = 4 * 1024 * 1024  # bytes of a body that is moved without being read
_PARSED_INLINE = 64 * 1024  # bytes of JSON; more is parsed in a thread, off the loop
MOST_JSON = 16 * 1024 * 1024


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


class Reply:
    """An answer whose head has come."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers = response.headers
        self.length = _length(response)

    @property
    def content_type(self) -> str:
        """The media type without parameters, in lower case; empty if it is not told."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body; raise `StreamBroken` unless it is as long as it was said to be."""
        try:
            async for chunk in self._response.content.iter_any():
                if chunk:
                    yield chunk
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise StreamBroken("the executor's answer was cut short") from exc

    def inflow(self, held: bytes) -> Inflow | None:
        """The rest of the body where it comes in, behind *held*, which has been read of it.

        None if `chunks` is as good: it leaves a connection that can be used again.
        """
        if self.length is None or self.length < _WORTH_A_CONNECTION:
            return None
        return SocketInflow.of(self._response, held)

    async def body(self, most: int) -> bytes:
        """The whole body; raise `ProtocolFault` if it is cut short or has over *most* bytes."""
        if self.length is not None and self.length > most:
            raise ProtocolFault("the executor's answer is too large")
        pieces, total = [], 0
        try:
            async for chunk in self.chunks():
                total += len(chunk)
                if total > most:
                    raise ProtocolFault("the executor's answer is too large")
                pieces.append(chunk)
        except StreamBroken as exc:
            raise ProtocolFault(str(exc)) from exc
        return b"".join(pieces)

    async def json(self, form: TypeAdapter[T], most: int = MOST_JSON) -> T:
        """The body as JSON of that *form*; raise `ProtocolFault` if it is not."""
        if self.content_type not in ("application/json", "application/problem+json"):
            raise ProtocolFault("the executor's answer is not JSON")
        body = await self.body(most)
        try:
            if len(body) <= _PARSED_INLINE:
                return form.validate_json(body)
            return await asyncio.to_thread(form.validate_json, body)
        except ValidationError as exc:
            # Not the exception's own text: it shows what the backend sent.
            first = exc.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise ProtocolFault("the executor's answer has an unexpected form") from ValueError(
                f"{where}: {first['type']}"[:200]
            )


class RestEngine:
    """The connections to one backend, and how its answers become verdicts.

    *refusals* are statuses that this backend's protocol gives a meaning of their own.
    """

    def __init__(
        self, session: aiohttp.ClientSession, base: URL, headers: Mapping[str, str]
    ) -> None:
        self._session = session
        self._base = base
        self._headers = headers

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
            yield cls(
                session,
                base,
                {
                    "Accept-Encoding": "identity",
                    "User-Agent": "workspace-gateway",
                    **(headers or {}),
                },
            )

    def at(self, base: URL) -> Self:
        """The same connections and headers, for a backend that is elsewhere."""
        return type(self)(self._session, base, self._headers)

    @asynccontextmanager
    async def ask(
        self,
        ask: Ask,
        expected: Collection[int] = (200,),
        refusals: Mapping[int, Callable[[], GatewayError]] | None = None,
    ) -> AsyncIterator[Reply]:
        """Send *ask* and yield the answer once its head is there, if its status is *expected*.

        Raises what *refusals* has for another status, `AuthRejected` for 401 and 403,
        `Unavailable` for 429 and 5xx, `Unreachable`, `TimedOut`, and `ProtocolFault` for all
        else: redirects are never followed.
        """
        response = await self._response(ask)
        try:
            if response.status not in expected:
                known = (refusals or {}).get(response.status, partial(refusal, response.status))
                raise known()
            yield Reply(response)
        finally:
            response.close() if not response.content.at_eof() else response.release()

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
            raise Unavailable("the executor hung up") from exc
        except (aiohttp.ClientError, ValueError) as exc:
            raise ProtocolFault("the executor's answer is malformed") from exc


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


def _length(response: aiohttp.ClientResponse) -> int | None:
    """How long the body will be; raise `ProtocolFault` if nothing tells where it ends."""
    headers = response.headers
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ProtocolFault("the executor compresses although it was asked not to")
    lengths = headers.getall("Content-Length", [])
    if headers.get("Transfer-Encoding", "").lower() == "chunked":
        return None
    if response.status in (204, 304) or response.method == "HEAD":
        return 0
    if len(lengths) != 1 or not (lengths[0].isascii() and lengths[0].isdigit()):
        raise ProtocolFault("the executor's answer does not say how long it is")
    return int(lengths[0])


def _correlation() -> dict[str, str]:
    known: dict[str, Any] = {
        "X-Request-ID": REQUEST_ID.get(),
        "traceparent": TRACEPARENT.get(),
    }
    return {name: value for name, value in known.items() if value is not None}
