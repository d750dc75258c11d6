"""Reads the JSON object that a request brings, whatever else may stand in its body."""

import asyncio
import json
from collections.abc import Sequence
from typing import cast

from aiohttp import http, web

from gateway.domain.errors import BadParameter, TooLarge
from gateway.http.connection import Connection
from gateway.http.errors import BodyLate

MOST_BYTES = 256 * 1024
_JSON = "application/json"
_MOST_SHOWN = 40  # characters of a name that the caller has chosen


async def json_object(request: web.BaseRequest) -> dict[str, object]:
    """The body; empty if there is none.

    Raises `BadParameter` for what is not one JSON object, whose names stand once everywhere in it,
    `TooLarge` for more than 256 KiB, and `BodyLate`.
    """
    body = await _body(request)
    if not body:
        return {}
    if request.headers.get("Content-Type") is not None and request.content_type != _JSON:
        raise BadParameter(f"Content-Type: must be {_JSON}")
    try:
        found = json.loads(body.decode(), object_pairs_hook=_once, parse_constant=_refuse)
    except RecursionError:
        raise BadParameter("body: nested too deeply") from None
    except ValueError:
        raise BadParameter("body: not valid JSON") from None
    if not isinstance(found, dict):
        raise BadParameter("body: must be a JSON object")
    return found


def shown(name: str) -> str:
    """A name of the caller's choice, as an error may repeat it."""
    return ascii(name[:_MOST_SHOWN])


async def _body(request: web.BaseRequest) -> bytes:
    body = bytearray()
    try:
        # As long as for a head: until the body is there, nothing limits how slow a client may be.
        async with asyncio.timeout(cast(Connection, request.protocol).timeouts.header_s):
            async for piece in request.content.iter_any():
                body += piece
                if len(body) > MOST_BYTES:
                    raise TooLarge(f"body: more than {MOST_BYTES} bytes")
    except TimeoutError:
        raise BodyLate("the body did not arrive in time") from None
    except (http.HttpProcessingError, web.RequestPayloadError):
        raise BadParameter("body: its chunks are malformed") from None
    return bytes(body)


def _once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise BadParameter(f"body: {shown(name)} stands twice")
        found[name] = value
    return found


def _refuse(constant: str) -> None:
    raise ValueError(constant)  # NaN and Infinity are Python's, not JSON's
