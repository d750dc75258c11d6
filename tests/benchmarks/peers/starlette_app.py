"""The Starlette peers: the listing and the download of one file, under uvicorn.

It is the fast way to write it: uvloop and httptools, orjson. `app` reads directories in the event
loop, where one on a slow disk holds up everybody; `threaded` has Starlette's threads do it.
"""

import hashlib
import hmac
import os
from collections.abc import Callable
from datetime import UTC, datetime

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

ROOT = os.environ["BENCH_ROOT"]
DIGEST = bytes.fromhex(os.environ["BENCH_SHA256"])
JSON = "application/json; charset=utf-8"
HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private, no-cache"}


def authenticated(request: Request) -> bool:
    """Whether the request carries the one key."""
    key = request.headers.get("x-api-key", "")
    return hmac.compare_digest(hashlib.sha256(key.encode()).digest(), DIGEST)


def refused() -> Response:
    """Answer 401."""
    return Response(orjson.dumps({"error": "unauthorized"}), 401, HEADERS, JSON)


async def ready(_: Request) -> Response:
    """Answer 200."""
    return Response(b'{"status":"ok"}', media_type=JSON)


def listing(request: Request) -> Response:
    """List the direct children of a session."""
    if not authenticated(request):
        return refused()
    session = request.path_params["session"]
    files = []
    with os.scandir(os.path.join(ROOT, session)) as found:
        for entry in sorted(found, key=lambda entry: os.fsencode(entry.name)):
            facts, is_dir = entry.stat(follow_symlinks=False), entry.is_dir(follow_symlinks=False)
            modified = datetime.fromtimestamp(int(facts.st_mtime), UTC)
            files.append(
                {
                    "name": entry.name,
                    "path": f"/{entry.name}",
                    "size": 0 if is_dir else facts.st_size,
                    "is_dir": is_dir,
                    "modified_at": modified,
                }
            )
    answer = {"session_id": session, "path": "/", "files": files}
    return Response(orjson.dumps(answer, option=orjson.OPT_UTC_Z), 200, HEADERS, JSON)


async def listing_in_the_loop(request: Request) -> Response:
    """Do the same without a thread."""
    return listing(request)


async def file(request: Request) -> Response:
    """Send one file."""
    if not authenticated(request):
        return refused()
    names = request.path_params
    path = os.path.normpath(os.path.join(ROOT, names["session"], names["path"]))
    if not path.startswith(ROOT + os.sep):
        return Response(b'{"error":"invalid path"}', 400, HEADERS, JSON)
    return FileResponse(path, headers=HEADERS, media_type="application/octet-stream")


def with_listing(endpoint: Callable[..., object]) -> Starlette:
    """Return the application that lists so."""
    return Starlette(
        routes=[
            Route("/livez", ready),
            Route("/readyz", ready),
            Route("/api/v1/sessions/{session}/files", endpoint),
            Route("/api/v1/sessions/{session}/files/{path:path}", file),
        ]
    )


app, threaded = with_listing(listing_in_the_loop), with_listing(listing)
