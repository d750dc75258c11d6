"""Hands a whole file over to the proxy in front, which sends it from the disk by itself.

The gateway makes every check and every header; `X-Accel-Redirect` (nginx) then names the file to
the proxy. nginx opens it by that path, links forbidden, so that it can only be a file below the
executor's root; see `deploy/nginx`.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote_from_bytes

from aiohttp import web

from gateway.executors.streams import FileStream
from gateway.http.addresses import Network, from_proxy
from gateway.http.answers import Answer

_WORTH_IT = 256 * 1024  # bytes: up to here the gateway's own answer is faster

# What nginx would judge by its own idea of the file, were it to answer such a request.
_PARTIAL_OR_CONDITIONAL = (
    "Range",
    "If-Range",
    "If-Match",
    "If-None-Match",
    "If-Modified-Since",
    "If-Unmodified-Since",
)


@dataclass(frozen=True, slots=True)
class Offload:
    """The proxies that send files: *prefix* and the executor's name lead to its root there."""

    prefix: str
    trusted_proxies: Sequence[Network]


OFFLOAD = web.RequestKey("offload", Offload)


async def handed_over(
    request: web.BaseRequest, stream: FileStream, headers: Mapping[str, str]
) -> Answer | None:
    """The answer that tells the proxy to send the file with *headers*; None if it is not to.

    That is for a plain GET of a whole file that is large enough and lies on this host's disk, from
    a trusted proxy which says that it can, and of which the config says so: anybody else would
    take the empty body for the file.
    """
    entry = stream.entry
    if (
        (entry.size or 0) <= _WORTH_IT
        or (offload := request.get(OFFLOAD)) is None
        or request.headers.getall("X-Sendfile-Type", []) != ["X-Accel-Redirect"]
        or request.method != "GET"
        or "Repr-Digest" in headers
        or any(name in request.headers for name in _PARTIAL_OR_CONDITIONAL)
        # The proxy could not give the same Last-Modified.
        or entry.mtime_ns is None
        or not 0 <= entry.mtime_ns <= time.time_ns()
        or not from_proxy(request, offload.trusted_proxies)
    ):
        return None
    location = await stream.location()
    if location is None:
        return None
    target = f"{offload.prefix}{stream.source}/{quote_from_bytes(location)}"
    # With the length the proxy can tell whether it has opened what was checked here.
    own = {"X-Accel-Redirect": target, "X-Workspace-Length": str(entry.size)}
    return Answer(200, headers={**headers, **own})
