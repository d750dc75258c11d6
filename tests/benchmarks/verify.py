"""Whether a peer does the job at all: speed is told only of answers that are right."""

import hashlib
import http.client
import json
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import closing
from typing import IO

from tests.benchmarks import raw, workspaces
from tests.benchmarks.corpus import Corpus
from tests.benchmarks.load import Broken
from tests.benchmarks.peers import KEY
from tests.benchmarks.processes import HOST, Server


def listing(server: Server, corpus: Corpus, session: str, *, recursive: bool = False) -> None:
    """Raise `Broken` unless *server* asks for the key and lists *session* as it is on disk."""
    path = f"/api/v1/sessions/{session}/files" + "?recursive=true" * recursive
    _closed_without_key(server, path)
    status, body = get(server, path, KEY)
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


def archive(
    server: Server, corpus: Corpus, session: str, path: str, *, authenticated: bool
) -> None:
    """Raise `Broken` unless the archive at *path* has all files of *session*, byte by byte."""
    if authenticated:
        _closed_without_key(server, path)
    left = dict(workspaces.files(corpus, session))
    try:
        for name, data in _members(server, path):
            # Some put the workspace itself, or the directory they were started in, before it.
            place = left.pop(name.removeprefix("./").removeprefix(f"{session}/"), None)
            if place is None or place.read_bytes() != data:
                raise Broken(f"{server.name} has a wrong {name} in the archive of {session}")
    except (http.client.HTTPException, zipfile.BadZipFile, tarfile.TarError, EOFError) as exc:
        raise Broken(f"{server.name} sent no whole archive of {session}: {exc!r}") from exc
    if left:
        raise Broken(f"{server.name} left {len(left)} files out of the archive of {session}")


def _members(server: Server, path: str) -> Iterator[tuple[str, bytes]]:
    with tempfile.TemporaryFile() as made:
        with closing(http.client.HTTPConnection(HOST, server.port, timeout=30)) as connection:
            connection.request("GET", path, headers={"X-API-Key": KEY})
            answer = connection.getresponse()
            if answer.status != 200:
                raise Broken(f"{server.name} answered {answer.status}: {answer.read(200)!r}")
            shutil.copyfileobj(answer, made, 1 << 20)
        made.seek(0)
        unpacked = _zipped if made.read(2) == b"PK" else _tarred
        made.seek(0)
        yield from unpacked(made)


def _zipped(made: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(made) as found:
        for member in found.infolist():
            if not member.is_dir():
                yield member.filename, found.read(member)


def _tarred(made: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=made, mode="r:gz") as found:
        for member in found:
            data = found.extractfile(member)
            if data is not None:
                yield member.name, data.read()


def _closed_without_key(server: Server, path: str) -> None:
    status, _ = get(server, path, "wrong-" + KEY)
    if status != 401:
        raise Broken(f"{server.name} answered {status} to a wrong key")


def get(server: Server, path: str, key: str) -> tuple[int, bytes]:
    """Return status and body of one answer."""
    connection = http.client.HTTPConnection(HOST, server.port, timeout=30)
    try:
        connection.request("GET", path, headers={"X-API-Key": key})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
