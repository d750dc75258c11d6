"""The table: each fault of an executor or network, each operation, and what the client gets.

Without a local copy not every operation is tried again: they differ in what has been sent by then.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import pytest

from tests.doubles import fault_proxy, faults
from tests.doubles.fault_proxy import Fault
from tests.faults.stage import BIG, HASTY, OPERATIONS, PATIENT, Times, each, is_error, staged
from tests.faults.subjects import Subject


@dataclass(frozen=True)
class Head:
    """The answer never begins, or is refused at its head: every operation is served by the
    fallback, which says *code*, or for some executors what *otherwise* has for them.
    """

    fault: Fault
    code: str
    otherwise: Mapping[str, str] = field(default_factory=dict)
    times: Times = PATIENT

    def code_of(self, subject: Subject) -> str:
        return self.otherwise.get(subject.name, self.code)


@dataclass(frozen=True)
class Body:
    """The answer breaks behind its head: what is small is served by the fallback, for the client
    has got nothing yet; of what is large a part has been sent, and the rest never comes.
    """

    fault: Fault
    framing: str = "length"
    times: Times = PATIENT


@dataclass(frozen=True)
class Start:
    """The answer breaks behind its head, and before anything of it: the fallback serves all."""

    fault: Fault
    times: Times = PATIENT


_ENDLESS = Times({**PATIENT.executor, "total": "3s"}, PATIENT.deadline_s)
# What is sent of a large file before it falls silent has to come in time even on a busy machine.
_SILENT = Times({**HASTY.executor, "connect": "1s", "first_byte": "1s"}, 4)


def _chunks(data: bytes) -> bytes:
    half = len(data) // 2
    return faults.chunk(data[:half]) + faults.chunk(data[half:])


HEADS: dict[str, Head] = {
    "accepts and is silent": Head(faults.silent, "timeout", times=HASTY),
    "first byte late": Head(faults.late(0.8), "timeout", times=HASTY),
    "reset instead of an answer": Head(faults.reset, "unavailable"),
    "hangs up instead of an answer": Head(faults.hang_up, "unavailable"),
    "half a head": Head(faults.raw(b"HTTP/1.1 200 OK\r\nContent-Le"), "unavailable"),
    "a head without end": Head(
        faults.for_ever(b"HTTP/1.1 200 OK\r\n", b"X-A: " + b"b" * 1000 + b"\r\n"), "protocol"
    ),
    "interim answers without end": Head(
        faults.for_ever(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"), "protocol"
    ),
    "no HTTP": Head(faults.raw(b"SSH-2.0-OpenSSH_9.2p1\r\n"), "protocol"),
    "HTTP of another age": Head(faults.raw(b"HTTP/9.9 200 OK\r\n\r\n"), "protocol"),
    "status of four digits": Head(faults.raw(b"HTTP/1.1 2000 OK\r\n\r\n"), "protocol"),
    "header with NUL": Head(faults.raw(b"HTTP/1.1 200 OK\r\nX-A: a\0b\r\n\r\n"), "protocol"),
    "101": Head(faults.status("101 Switching Protocols", "Upgrade: x", body=b""), "protocol"),
    "201": Head(faults.status("201 Created"), "protocol"),
    "a few too many interim answers": Head(
        faults.raw(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 17), "protocol"
    ),
    "204": Head(faults.raw(b"HTTP/1.1 204 No Content\r\n\r\n"), "protocol"),
    "301": Head(faults.status("301 Moved", "Location: http://127.0.0.1:1/"), "protocol"),
    "302 //host": Head(faults.status("302 Found", "Location: //127.0.0.1:1/x"), "protocol"),
    "307 file": Head(faults.status("307 Moved", "Location: file:///etc/passwd"), "protocol"),
    "400": Head(faults.status("400 Bad"), "protocol"),
    "401": Head(faults.status("401 No"), "auth"),
    "403": Head(faults.status("403 No"), "auth"),
    # The profile's API has no words of its own for what is missing. Where it says 404 even of the
    # workspace's directory, the workspace is gone: if nobody else has it either, that is 404.
    "404 of somebody else": Head(
        faults.status("404 Not Found"), "protocol", {"http_profile": "gone"}
    ),
    "418": Head(faults.status("418 Teapot"), "protocol"),
    "429": Head(faults.status("429 Slow down", "Retry-After: 3600"), "unavailable"),
    "500": Head(faults.status("500 Oops"), "unavailable"),
    "502": Head(faults.status("502 Bad Gateway"), "unavailable"),
    "503": Head(faults.status("503 Busy", "Retry-After: 3600"), "unavailable"),
    "599": Head(faults.status("599 Whatever"), "unavailable"),
    "neither length nor chunks": Head(faults.framed(), "protocol"),
    "negative length": Head(faults.length(lambda n: -n), "protocol"),
    "length with a plus": Head(faults.length(lambda n: f"+{n}"), "protocol"),
    "length in text": Head(faults.length(lambda n: "many"), "protocol"),
    "length in hex": Head(faults.length(lambda n: hex(n)), "protocol"),
    "length empty": Head(faults.length(lambda n: ""), "protocol"),
    "two lengths in a line": Head(faults.length(lambda n: f"{n}, {n + 1}"), "protocol"),
    "two lengths": Head(faults.framed("Content-Length: 5", "Content-Length: 6"), "protocol"),
    "length of 5000 digits": Head(faults.length(lambda n: "9" * 5000), "protocol"),
    "length and chunks": Head(
        faults.framed(
            "Content-Length: 5",
            "Transfer-Encoding: chunked",
            frame=lambda body: _chunks(body) + b"0\r\n\r\n",
        ),
        "protocol",
    ),
    "chunks under another name": Head(faults.framed("Transfer-Encoding: gzip"), "protocol"),
    "gzip bomb": Head(faults.bomb("gzip", 256 << 20), "protocol"),
    "deflate bomb": Head(faults.bomb("deflate", 256 << 20), "protocol"),
    "unknown encoding": Head(faults.header("Content-Encoding", "br"), "protocol"),
}

BODIES: dict[str, Body] = {
    "reset": Body(faults.cut(0.5, by_reset=True)),
    "hangs up": Body(faults.cut(0.5, by_reset=False)),
    "one byte short": Body(faults.cut(0.99999, by_reset=False)),
    "falls silent": Body(faults.stalled(0.5), times=_SILENT),
    "length too long": Body(faults.length(lambda n: n + 1)),
    "chunks without an end": Body(faults.chunked(_chunks), "chunks"),
    "chunk cut": Body(faults.chunked(lambda body: _chunks(body)[: len(body) // 2]), "chunks"),
    "chunk longer than its size": Body(
        faults.chunked(lambda body: faults.chunk(body)[:-2] + b"more\r\n0\r\n\r\n"),
        "chunks",
        times=HASTY,
    ),
}

STARTS: dict[str, Start] = {
    "reset behind the head": Start(faults.cut(0, by_reset=True)),
    "a byte a second": Start(faults.drip(1), HASTY),
    "twenty bytes a second": Start(faults.drip(0.05), HASTY),
    "length zero": Start(faults.length(lambda n: 0)),
    "length beyond 64 bits": Start(faults.length(lambda n: 2**64 + 5)),
    "chunk size no number": Start(faults.chunked(lambda body: b"zz\r\n" + body)),
    "chunk size negative": Start(faults.chunked(lambda body: b"-5\r\n" + body)),
    "chunk size beyond 64 bits": Start(faults.chunked(lambda body: b"f" * 17 + b"\r\n" + body)),
}
OVERSIZED: dict[str, Fault] = {
    "chunks without end": faults.endless_chunks(),
    "chunks of blanks without end": faults.endless_chunks(b" " * 65536),
    "101 MB": faults.declared(101 << 20),
    "length of 2^63-1": faults.length(lambda n: 2**63 - 1),
}

LIES: dict[str, Fault] = {
    "length too short": faults.length(lambda n: n - 1),
    "length far too short": faults.length(lambda n: n // 2),
    "empty": faults.body(b""),
    "other bytes": faults.body(b"other bytes"),
    "an object": faults.body(b"{}"),
}
"""Well framed, but not what is there: of a file's bytes nobody can tell, a listing has a form."""


@dataclass(frozen=True)
class Connection:
    """There is no connection at all."""

    place: Callable[[], AbstractContextManager[int]]
    code: str
    host: str = "127.0.0.1"
    times: Times = PATIENT


CONNECTIONS = {
    "refused": Connection(fault_proxy.refusing, "unreachable"),
    "no such host": Connection(fault_proxy.refusing, "unreachable", "nowhere.invalid"),
    "black hole": Connection(fault_proxy.black_hole, "timeout", times=HASTY),
}

HARMLESS: dict[str, Fault] = {
    "late within its time": faults.late(0.2),
    "503 once": faults.at_first(faults.status("503 Busy")),
    "reset once": faults.at_first(faults.reset),
    "hangs up once": faults.at_first(faults.hang_up),
}
"""The executor's own answer arrives."""


def _rows(rows):
    return pytest.mark.parametrize("row", rows.values(), ids=rows.keys())


async def answered(operation, gateway, times=PATIENT):
    """The answer, which came within the deadline."""
    began = time.monotonic()
    answer = await operation.ask(gateway)
    took = time.monotonic() - began
    assert took < times.deadline_s + 0.5, f"it took {took:.2f} s"
    return answer


def assert_from_fallback(operation, answer, code):
    assert operation.is_exact(answer)
    assert answer.header("X-Workspace-Source") == "local"
    assert answer.header("X-Workspace-Fallback") == code


def assert_refused(operation, answer, status=502):
    assert answer.status == status
    assert answer.header("X-Workspace-Source") == ("remote" if status == 413 else None)
    assert operation.method == "HEAD" or is_error(answer)


@_rows(CONNECTIONS)
@each()
async def test_without_a_connection_the_fallback_serves(subject, operation, row, tmp_path):
    with row.place() as port:
        async with staged(
            subject, tmp_path, url=f"http://{row.host}:{port}", times=row.times
        ) as stage:
            answer = await answered(operation, stage.gateway, row.times)

    assert_from_fallback(operation, answer, row.code)


@_rows(CONNECTIONS)
@each("small", "list")
async def test_without_a_connection_or_a_local_copy_it_is_502(subject, operation, row, tmp_path):
    with row.place() as port:
        url = f"http://{row.host}:{port}"
        async with staged(subject, tmp_path, url=url, local=False, times=row.times) as stage:
            answer = await answered(operation, stage.gateway, row.times)

    assert_refused(operation, answer)


@_rows(HEADS)
@each()
async def test_an_answer_that_is_none_is_served_by_the_fallback(subject, operation, row, tmp_path):
    async with staged(subject, tmp_path, row.fault, times=row.times) as stage:
        answer = await answered(operation, stage.gateway, row.times)

    assert_from_fallback(operation, answer, row.code_of(subject))


@_rows(HEADS)
@each("small", "list")
async def test_an_answer_that_is_none_without_a_local_copy_is_502(
    subject, operation, row, tmp_path
):
    async with staged(subject, tmp_path, row.fault, local=False, times=row.times) as stage:
        answer = await answered(operation, stage.gateway, row.times)

    assert_refused(operation, answer, 404 if row.code_of(subject) == "gone" else 502)


@_rows(STARTS)
@each()
async def test_an_answer_without_a_first_byte_is_served_by_the_fallback(
    subject, operation, row, tmp_path
):
    async with staged(subject, tmp_path, row.fault, times=row.times) as stage:
        answer = await answered(operation, stage.gateway, row.times)

    assert operation.is_exact(answer)
    assert answer.header("X-Workspace-Source") == "local"


@_rows(STARTS)
@each("small", "list")
async def test_an_answer_without_a_first_byte_or_a_local_copy_is_502(
    subject, operation, row, tmp_path
):
    async with staged(subject, tmp_path, row.fault, local=False, times=row.times) as stage:
        answer = await answered(operation, stage.gateway, row.times)

    assert_refused(operation, answer)


@_rows(BODIES)
@each()
async def test_an_answer_that_breaks_is_served_by_the_fallback_or_visibly_broken(
    subject, operation, row, tmp_path
):
    async with staged(subject, tmp_path, row.fault, times=row.times) as stage:
        answer = await answered(operation, stage.gateway, row.times)

    if operation is OPERATIONS["big"] and row.framing in subject.streams:
        assert answer.status == 200
        assert not answer.complete
        assert BIG.startswith(answer.body)
    else:
        assert operation.is_exact(answer)
        assert answer.header("X-Workspace-Source") == "local"


@_rows(BODIES)
@each("small", "big", "range", "tree")
async def test_an_answer_that_breaks_without_a_local_copy_is_never_complete(
    subject, operation, row, tmp_path
):
    async with staged(subject, tmp_path, row.fault, local=False, times=row.times) as stage:
        answer = await answered(operation, stage.gateway, row.times)

    if answer.status == 502:
        assert_refused(operation, answer)
    else:
        assert not answer.complete


@_rows(OVERSIZED)
@each()
async def test_too_much_is_refused_or_broken_and_never_complete(subject, operation, row, tmp_path):
    limits = {"limits": {"file": "8MB"}}
    async with staged(subject, tmp_path, row, changes=limits, times=_ENDLESS) as stage:
        answer = await answered(operation, stage.gateway)

    if answer.status in (413, 502):
        assert_refused(operation, answer, answer.status)
    elif answer.complete:
        assert operation.is_exact(answer)
        assert answer.header("X-Workspace-Source") == "local"


@_rows(LIES)
@each("list", "tree")
async def test_a_listing_that_is_none_is_served_by_the_fallback(subject, operation, row, tmp_path):
    async with staged(subject, tmp_path, row) as stage:
        answer = await answered(operation, stage.gateway)

    assert_from_fallback(operation, answer, "protocol")


@_rows(HARMLESS)
@each()
async def test_what_passes_within_its_time_is_not_noticed(subject, operation, row, tmp_path):
    async with staged(subject, tmp_path, row) as stage:
        answer = await answered(operation, stage.gateway)

    assert operation.is_exact(answer)
    assert answer.header("X-Workspace-Source") == "remote"
    assert answer.header("X-Workspace-Fallback") is None
