"""What else makes archives, behind one route: programs, and the library zipstream-ng.

Run as `python archivers_app.py PORT ROOT NAME`. A program writes to the client's socket itself, as
under inetd, so nothing here stands between the two.
"""

import os
import socket
import struct
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from zipfile import ZIP_DEFLATED

PORT, ROOT, NAME = int(sys.argv[1]), sys.argv[2], sys.argv[3]
COMMANDS = {
    "zip-1": "zip -q -r -1 - .",
    "zip-6": "zip -q -r -6 - .",
    "tar-igzip": "tar -c . | igzip -1 -c",
    "tar-pigz": "tar -c . | pigz -1 -c",
}


def zipstream(directory: str, client: socket.socket) -> None:
    """Send a zip at the level of the others, in pieces larger than the library's smallest."""
    from zipstream import ZipStream  # the commands go without it

    pieces = ZipStream.from_path(directory, compress_type=ZIP_DEFLATED, compress_level=1)
    with client.makefile("wb", 1 << 16) as out:
        for piece in pieces:
            out.write(piece)


def command(directory: str, client: socket.socket) -> None:
    """Let the program send; raise if it fails, or any of a pipe."""
    pipe = ["bash", "-o", "pipefail", "-c", COMMANDS[NAME]]
    out = client.fileno()
    subprocess.run(pipe, cwd=directory, stdin=subprocess.DEVNULL, stdout=out, check=True)


_RESET, _SEND_THE_REST = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)


class Handler(BaseHTTPRequestHandler):
    """One archive a connection, which ends with it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer that all is well, or with the archive of the session in the path."""
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        if self.path == "/readyz":
            return
        # The end of the connection is that of the archive: a failure must not look like one.
        self._when_closed(_RESET)
        directory = os.path.join(ROOT, self.path.split("/")[4])
        (zipstream if NAME == "zipstream-ng" else command)(directory, self.connection)
        self._when_closed(_SEND_THE_REST)

    def _when_closed(self, linger: bytes) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class Server(ThreadingHTTPServer):
    """One thread a connection."""

    def shutdown_request(self, request: Any) -> None:
        """Close only: the base class ends every connection cleanly first."""
        request.close()


if __name__ == "__main__":
    Server(("127.0.0.1", PORT), Handler).serve_forever()
