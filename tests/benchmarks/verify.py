"""Whether a peer does the job at all: speed is told only of answers that are right."""

import hashlib
import http.client
import json

from tests.benchmarks import raw
from tests.benchmarks.corpus import Corpus
from tests.benchmarks.load import Broken
from tests.benchmarks.peers import KEY
from tests.benchmarks.processes import HOST, Server


def listing(server: Server, corpus: Corpus, session: str, *, recursive: bool = False) -> None:
    """Raise `Broken` unless *server* asks for the key and lists *session* as it is on disk."""
    path = f"/api/v1/sessions/{session}/files" + "?recursive=true" * recursive
    _closed_without_key(server, path)
    status, body = _get(server, path, KEY)
    if status != 200:
        raise Broken(f"{server.name} answered {status} to {path}: {body[:200]!r}")
    answer = json.loads(body)
    want = {"session_id": session, "path": "/"}
    if {name: answer.get(name) for name in want} != want:
        raise Broken(f"{server.name} described the listing of {session} wrongly")
    if answer["files"] != corpus.listing(session, recursive=recursive):
        raise Broken(f"{server.name} listed {len(answer['files'])} entries, not those on disk")


def file(server: Server, corpus: Corpus, name: str, *, authenticated: bool) -> None:
    """Raise `Broken` unless *server* sends exactly the bytes of *name*, and asks for the key."""
    path = f"/api/v1/sessions/files/files/{name}"
    if authenticated:
        _closed_without_key(server, path)
    with corpus.file(name).open("rb") as right:
        if raw.sha256(server, path) != hashlib.file_digest(right, "sha256").hexdigest():
            raise Broken(f"{server.name} sent other bytes than those of {name}")


def _closed_without_key(server: Server, path: str) -> None:
    status, _ = _get(server, path, "wrong-" + KEY)
    if status != 401:
        raise Broken(f"{server.name} answered {status} to a wrong key")


def _get(server: Server, path: str, key: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(HOST, server.port, timeout=30)
    try:
        connection.request("GET", path, headers={"X-API-Key": key})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
