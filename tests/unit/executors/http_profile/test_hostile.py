"""A backend that lies, rambles or breaks: an outage, and never a wrong answer."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from gateway.domain.errors import (
    AuthRejected,
    CircuitOpen,
    NotAFile,
    Outage,
    PathNotFound,
    ProtocolFault,
    StreamBroken,
    Unavailable,
    Unreachable,
    Unsupported,
    WorkspaceGone,
)
from gateway.domain.model import Entry
from gateway.domain.paths import WorkspacePath
from gateway.executors.base import Executor
from gateway.executors.guarded import Guarded
from gateway.executors.http_profile.config import HttpProfileConfig
from gateway.executors.http_profile.http_profile import HttpProfile
from gateway.executors.streams import Wanted
from tests.doubles.serving import routed, serving

PROFILE = """
list:
  request: {path: /list, query: {path: "{path}"}}
  entries: /entries
  fields:
    name: /name
    directory: {at: /dir, equals: true}
    size: /size
    modified: {at: /time, format: epoch_s}
download:
  request: {path: /file, query: {path: "{path}"}}
  type: application/octet-stream
errors:
  - {status: 404, answer: {at: /why, equals: gone}, means: workspace_gone}
  - {status: 404, answer: {at: /why, starts_with: "no such "}, means: path_not_found}
  - {status: 400, means: unclear}
  - {answer: {at: /ok, equals: false}, means: unavailable}
capabilities: {ranges: true, versions: true}
"""
TOLD = PROFILE.replace(
    "  type: application/octet-stream\n", "  content: {at: /text, encoding: %s}\n"
).replace("capabilities: {ranges: true, versions: true}\n", "")
FILE = WorkspacePath((b"f",))
FINE = {"name": "f", "dir": False, "size": 1, "time": 1}


@asynccontextmanager
async def answering(
    tmp_path: Path, answers: dict[str, Any], profile: str = PROFILE
) -> AsyncIterator[HttpProfile]:
    """The executor on a server that answers each path of its URLs with what *answers* has."""

    async def answer(request: web.Request) -> web.StreamResponse:
        given = answers[request.path]
        if callable(given):
            made: web.StreamResponse = await given(request)
            return made
        if isinstance(given, web.Response):
            return given
        body = given if isinstance(given, bytes) else json.dumps(given).encode()
        return web.Response(body=body, content_type="application/json")

    file = tmp_path / "mine.yaml"
    file.write_text(profile)
    async with serving(routed(web.get("/{path}", answer))) as url:
        config = HttpProfileConfig(type="http_profile", profile=str(file), url=url)
        async with HttpProfile.running("box", config) as executor:
            yield executor


async def listed(executor: Executor, workspace: str = "s1") -> list[Entry]:
    async with executor.walk(workspace, WorkspacePath.ROOT, depth=1) as walk:
        return [entry async for batch in walk for entry in batch]


def entries(*changes: dict[str, Any]) -> dict[str, Any]:
    return {"entries": [{**FINE, **change} for change in changes]}


LISTINGS: dict[str, Any] = {
    "no JSON": b"<html>",
    "cut short": b'{"entries": [',
    "NaN for a size": b'{"entries": [{"name": "f", "dir": false, "size": NaN}]}',
    "half a character": b'{"entries": [{"name": "\\udcff", "dir": false}]}',
    "not UTF-8": b'{"entries": [{"name": "\xff", "dir": false}]}',
    "deep": b'{"entries": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "huge": b'{"entries": [' + b" " * 17 * 1024 * 1024 + b"]}",
    "a long number": b'{"entries": [{"name":"f","dir":false,"size":' + b"9" * 5000 + b"}]}",
    "many entries": {"entries": [{"name": f"{n}", "dir": 0} for n in range(100_001)]},
    "no entries": {},
    "entries that are none": {"entries": {"a": FINE}},
    "an entry that is none": {"entries": ["f"]},
    "an entry of nothing": {"entries": [None]},
    "no name": {"entries": [{"dir": False}]},
    "no kind": {"entries": [{"name": "f"}]},
    **{
        f"the name {name!r}": entries({"name": name})
        for name in ("", ".", "..", "a/b", "/etc/passwd", "../x", "a\0b", 7, None, "n" * 5000)
    },
    **{
        f"the size {size!r}": entries({"size": size})
        for size in (-1, 1.5, True, "1e3", "-1", "", " 1", [], {}, 2**63, "9" * 20, "\u0661")
    },
    "one name twice": entries({}, {"dir": True}),
}


@pytest.mark.parametrize("case", LISTINGS)
async def test_a_listing_that_cannot_be_true_is_an_outage(tmp_path, case):
    async with answering(tmp_path, {"/list": LISTINGS[case]}) as executor:
        with pytest.raises(ProtocolFault):
            await listed(executor)


async def test_what_hostile_code_can_do_costs_only_itself(tmp_path):
    """A time out of range, a name that the backend cannot tell."""
    given = entries({"name": "old", "time": -(10**40)}, {"name": "a\ufffd"}, {"name": "a\ufffd"})

    async with answering(tmp_path, {"/list": given}) as executor:
        found = {entry.path.name: entry for entry in await listed(executor)}

    assert set(found) == {"old", "a\ufffd"}
    assert found["old"].mtime_ns is None
    assert found["old"].problem is None
    assert found["a\ufffd"].problem == "its name cannot be told"


@pytest.mark.parametrize(
    ("size", "expected"), [(0, 0), ("17", 17), (2**63 - 1, 2**63 - 1), (None, None)]
)
async def test_a_size_may_be_text_or_unknown(tmp_path, size, expected):
    async with answering(tmp_path, {"/list": entries({"size": size})}) as executor:
        (entry,) = await listed(executor)

    assert entry.size == expected


def error(status: int, body: object = None, **headers: str) -> web.Response:
    if body is None:
        return web.Response(status=status, headers=headers)
    return web.json_response(body, status=status, headers=headers)


THERE = entries({})
EMPTY = entries()
ERRORS = [
    (error(404, {"why": "gone"}), THERE, WorkspaceGone),
    (error(404, {"why": "no such file"}), EMPTY, PathNotFound),
    (error(404, {"why": "no such file"}), error(404, {"why": "no such dir"}), WorkspaceGone),
    (error(404, {"why": "the file 'no such ' is odd"}), THERE, ProtocolFault),
    (error(404, {"why": ["no such file"]}), THERE, ProtocolFault),
    (error(404), THERE, ProtocolFault),
    (error(404, b"".decode()), THERE, ProtocolFault),
    (error(400), EMPTY, PathNotFound),
    (error(400), entries({"dir": True}), NotAFile),
    (error(400), error(400), WorkspaceGone),
    (error(400), error(500), Unavailable),
    (error(400), {"entries": 7}, ProtocolFault),
    (error(418, {"ok": False}), THERE, Unavailable),
    (error(401), THERE, AuthRejected),
    (error(403), THERE, AuthRejected),
    (error(429), THERE, Unavailable),
    (error(500), THERE, Unavailable),
    (error(302, Location="/list"), THERE, ProtocolFault),
    (error(204), THERE, ProtocolFault),
    (error(201, {"ok": True}), THERE, ProtocolFault),
    (error(206, {"ok": True}), THERE, ProtocolFault),
]


@pytest.mark.parametrize(("download", "listing", "expected"), ERRORS)
async def test_an_error_is_what_it_proves(tmp_path, download, listing, expected):
    async with answering(tmp_path, {"/file": download, "/list": listing}) as executor:
        with pytest.raises(expected) as raised:
            async with executor.open("s1", FILE):
                pass

    assert type(raised.value) is expected


def content(body: bytes = b"x", status: int = 200, **headers: str) -> web.Response:
    type_ = headers.pop("type", "application/octet-stream")
    return web.Response(body=body, status=status, content_type=type_, headers=headers)


def part(told: str, body: bytes = b"bc") -> web.Response:
    return content(body, 206, **{"Content-Range": told})


@pytest.mark.parametrize(
    "given",
    [
        content(type="text/html"),
        content(type="application/json", body=b'{"ok": false}'),
        content(**{"Content-Encoding": "gzip"}),
        part("bytes 0-1/9"),
        part("bytes 1-3/9"),
        part("bytes 1-2/*"),
        part("bytes 1-2/2"),
        part("bytes 2-1/9"),
        part("items 1-2/9"),
        part(f"bytes 1-2/{'9' * 30}"),
        content(b"bc", 206),
    ],
)
async def test_a_body_that_cannot_be_the_file_is_an_outage(tmp_path, given):
    async with answering(tmp_path, {"/file": given, "/list": THERE}) as executor:
        with pytest.raises(ProtocolFault):
            async with executor.open("s1", FILE, Wanted(1, 2)):
                pass


async def test_a_part_is_taken_as_a_part(tmp_path):
    given = part("bytes 1-2/9")
    given.headers["ETag"] = '"v1"'

    async with (
        answering(tmp_path, {"/file": given}) as executor,
        executor.open("s1", FILE, Wanted(1, 2)) as stream,
    ):
        assert stream.entry.size == 9
        assert stream.entry.version == "v1"
        assert await stream.read(1, 2) == b"bc"


@pytest.mark.parametrize("tag", ['W/"v1"', "v1", '""', '"', "*"])
async def test_a_weak_tag_is_no_version(tmp_path, tag):
    async with (
        answering(tmp_path, {"/file": content(ETag=tag)}) as executor,
        executor.open("s1", FILE) as stream,
    ):
        assert stream.entry.version is None


async def test_a_body_without_an_end_is_refused(tmp_path):
    async def chunked(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(b"x")
        return response

    async with answering(tmp_path, {"/file": chunked}) as executor:
        with pytest.raises(ProtocolFault, match="how long"):
            async with executor.open("s1", FILE):
                pass


@pytest.mark.parametrize("sent", [0, 1, 5])
async def test_a_body_that_is_cut_is_never_whole(tmp_path, sent):
    """Before the first byte another executor may still answer; after it the stream is broken."""

    async def cut(request: web.Request) -> web.StreamResponse:
        head = {"Content-Type": "application/octet-stream", "Content-Length": "9"}
        response = web.StreamResponse(headers=head)
        await response.prepare(request)
        await response.write(b"123456789"[:sent])
        assert request.transport is not None
        request.transport.close()
        return response

    async with answering(tmp_path, {"/file": cut}) as executor:
        with pytest.raises(StreamBroken if sent else ProtocolFault):
            async with executor.open("s1", FILE) as stream:
                assert [chunk async for chunk in stream.chunks(0, 9)]


@pytest.mark.parametrize(
    ("encoding", "given", "expected"),
    [
        ("base64", {"text": "AP8="}, b"\x00\xff"),
        ("base64", {"text": ""}, b""),
        ("base64", {"text": "AP8"}, ProtocolFault),
        ("base64", {"text": "AP8=\n"}, ProtocolFault),
        ("base64", {"text": "\u00e9"}, ProtocolFault),
        ("base64", {"text": None}, ProtocolFault),
        ("base64", {}, ProtocolFault),
        ("text", {"text": "caf\u00e9\r\n"}, b"caf\xc3\xa9\r\n"),
        ("text", {"text": "a\ufffdb"}, Unsupported),
        ("text", {"text": 7}, ProtocolFault),
        ("text", {"ok": False}, Unavailable),
    ],
)
async def test_content_in_json_is_exact_or_refused(tmp_path, encoding, given, expected):
    async with answering(tmp_path, {"/file": given}, TOLD % encoding) as executor:
        if isinstance(expected, bytes):
            async with executor.open("s1", FILE) as stream:
                assert stream.entry.size == len(expected)
                assert b"".join([c async for c in stream.chunks(0, len(expected))]) == expected
            return
        with pytest.raises(expected):
            async with executor.open("s1", FILE):
                pass


async def test_a_host_that_nobody_knows_is_a_workspace_that_is_gone(tmp_path):
    """Else the names that a client makes up would look like an executor that fails."""
    file = tmp_path / "mine.yaml"
    file.write_text(PROFILE)
    for url, expected in [
        ("http://{workspace}.sandboxes.invalid:2468", WorkspaceGone),
        ("http://box.sandboxes.invalid:2468", Unreachable),
        ("http://box.sandboxes.invalid:2468/{workspace}", Unreachable),
    ]:
        config = HttpProfileConfig(type="http_profile", profile=str(file), url=url)
        async with HttpProfile.running("box", config) as executor:
            with pytest.raises(Outage) as raised:
                await listed(executor)
            assert type(raised.value) is expected


async def test_sandboxes_that_nobody_can_connect_to_take_the_executor_from_no_other(tmp_path):
    """Code in them may close its port as it likes; only a server of all tells of the executor."""
    file = tmp_path / "mine.yaml"
    file.write_text(PROFILE)

    async def fine(request: web.Request) -> web.Response:
        return web.json_response(entries({}))

    async with serving(routed(web.get("/list", fine))) as url:
        port = url.rpartition(":")[2]
        config = HttpProfileConfig(type="http_profile", profile=str(file), url=url)
        # Names of which each has an address, as a domain has them; only the first has a server.
        own = config.model_copy(update={"url": f"http://127.0.0.{{workspace}}:{port}"})
        with capture_logs() as logs:
            async with HttpProfile.running("box", own) as executor:
                guard = Guarded(executor, own, 100)
                assert len(await listed(guard, "1")) == 1
                for workspace in ["2", "3", "4"] * 5:
                    with pytest.raises(Unreachable):
                        await listed(guard, workspace)

                assert len(await listed(guard, "1")) == 1
                with pytest.raises(CircuitOpen):
                    await listed(guard, "2")
                assert "circuit" not in (await guard.probe()).details
    opened = [line["workspace"] for line in logs if line.get("state") == "open"]
    assert opened == ["2", "3", "4"]
