"""The aiohttp peer: `web.FileResponse` behind one route, two processes on one port, no auth.

Run as `python fileresponse_app.py PORT ROOT`.
"""

import multiprocessing
import os
import sys

from aiohttp import web

PORT, ROOT = int(sys.argv[1]), sys.argv[2]
HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private, no-cache"}


async def ready(_: web.Request) -> web.Response:
    """Answer 200."""
    return web.Response(text="ok")


async def file(request: web.Request) -> web.FileResponse:
    """Send one file."""
    names = request.match_info
    path = os.path.normpath(os.path.join(ROOT, names["session"], names["path"]))
    if not path.startswith(ROOT + os.sep):
        raise web.HTTPBadRequest
    return web.FileResponse(path, headers=HEADERS)


def serve() -> None:
    """Serve until SIGTERM."""
    app = web.Application()
    app.add_routes(
        [
            web.get("/readyz", ready),
            web.get("/api/v1/sessions/{session}/files/{path:.+}", file),
        ]
    )
    web.run_app(app, host="127.0.0.1", port=PORT, reuse_port=True, access_log=None, print=None)


if __name__ == "__main__":
    second = multiprocessing.Process(target=serve, daemon=True)
    second.start()
    serve()
    second.terminate()
