"""Answers of an executor that is broken or compromised: none of them reaches a client."""

import asyncio
import base64
import gzip
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest
from aiohttp import web

from gateway.domain.errors import (
    AuthRejected,
    GatewayError,
    PathNotFound,
    ProtocolFault,
    TooLarge,
    Unavailable,
)
from tests.doubles.serving import serving
from tests.unit.executors.firecracker.rig import content, facing, firecracker, names

DOWNLOAD, EXECUTE = "/workspace/download", "/execute"


def output(text: str, **changes: object) -> bytes:
    return orjson.dumps({"success": True, "stdout": text, **changes})


def line(path: str | bytes, head: str = "f 1 1 644") -> str:
    raw = path if isinstance(path, bytes) else path.encode()
    return f"{head} {base64.b64encode(raw).decode()}\n"


async def test_what_it_adds_is_not_looked_at():
    answer = output(line("a") + ". end\n", stderr="../../etc/passwd", extra={"a": [1]})
    async with facing({EXECUTE: answer}) as executor:
        assert await names(executor) == ["a"]


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), ProtocolFault),
        (web.Response(status=400), ProtocolFault),
        (web.Response(status=401), AuthRejected),
        (web.Response(status=418), ProtocolFault),
        (web.Response(status=422), ProtocolFault),
        (web.Response(status=429), Unavailable),
        (web.Response(status=500), Unavailable),
        (web.Response(status=503), Unavailable),
        (web.Response(text="{}", content_type="text/html"), ProtocolFault),
        (web.Response(body=b"{}", content_type="application/octet-stream"), ProtocolFault),
        (
            web.Response(body=gzip.compress(b"{}"), headers={"Content-Encoding": "gzip"}),
            ProtocolFault,
        ),
    ],
    ids=lambda value: getattr(value, "status", None) and f"{value.status} {value.content_type}",
)
async def test_what_is_no_answer_is_an_outage(answer, verdict):
    # A response can be sent once only.
    copy = web.Response(body=answer.body, status=answer.status, headers=answer.headers)
    async with facing({DOWNLOAD: answer, EXECUTE: copy}) as executor:
        with pytest.raises(verdict):
            await content(executor, "a.txt")
        with pytest.raises(verdict):
            await names(executor)


@pytest.mark.parametrize("word", [b'". missing\\n"', b'". end\\n"', b'""', b'". file"', b"null"])
async def test_a_404_with_a_strange_reason_is_no_answer_either(word):
    answers = {
        DOWNLOAD: web.Response(status=404),
        EXECUTE: b'{"success":true,"stdout":' + word + b"}",
    }
    async with facing(answers) as executor:
        with pytest.raises(PathNotFound if b"missing" in word else ProtocolFault):
            await content(executor, "a.txt")


@pytest.mark.parametrize(
    "text",
    [
        b'{"success":true,"content":"aGVsbG8=","size_bytes":5,"error":null}',
        b'{"content":"aGVsbG8=","success":true}',
        b' {\n "size_bytes" : -1 , "error" : "\\"b" , "success" : true,"content" : "aGVsbG8=" } \n',
        b'{"success":true,"content_type":"x","content":"aGVsbG8="}',
    ],
)
async def test_the_content_is_found_wherever_it_stands(text):
    async with facing({DOWNLOAD: text}) as executor:
        assert await content(executor, "a.txt") == b"hello"


def holding(text: str) -> bytes:
    return b'{"success":true,"content":"' + text.encode() + b'"}'


@pytest.mark.parametrize(
    "answer",
    [
        *[
            holding(text)
            for text in (
                "a",
                "ab",
                "abc",
                "abc=d",
                "ab==abcd",
                "====",
                "=",
                "a b=",
                "ab\\nc",
                "é===",
            )
        ],
        holding("abcd\\"),
        holding("\\u0061bcd"),
        b'{"success":false,"content":"aGVsbG8="}',
        b'{"success":1,"content":"aGVsbG8="}',
        b'{"success":true,"content":null}',
        b'{"success":true,"content":["aGVsbG8="]}',
        b'{"success":true,"file":{"content":"aGVsbG8="}}',
        b'{"success":true,"content":"aGVsbG8="',
        b'{"success":true,"content":"aGVsbG8="}}',
        b'{"success":true,"content":"aGVsbG8=","content":"aGVsbG8="}',
        b'{"success":true,"content":"aGVsbG8="} {"success":true}',
        b'{"success":true,"content":"aGVs',
        b'{"success":true}',
        b"{}",
        b"",
        b"[" * 100_000,
        b'{"a":"' + b"x" * 100_000,
        holding("") + b" " * 100_000,
        b'{"success":true,"content":"","a":' + b"[" * 3000,
        b"aGVsbG8=",
    ],
    ids=lambda answer: answer[:60],
)
async def test_a_file_that_cannot_be_is_a_fault(answer):
    async with facing({DOWNLOAD: answer}) as executor:
        with pytest.raises(ProtocolFault):
            await content(executor, "a.txt")


async def test_an_answer_that_is_cut_is_known_before_the_first_byte_leaves():
    async def cut(request: web.Request) -> web.StreamResponse:
        whole = holding(base64.b64encode(bytes(300_000)).decode())
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.content_length = len(whole)
        await response.prepare(request)
        await response.write(whole[:200_000])
        assert request.transport is not None
        request.transport.abort()
        return response

    app = web.Application()
    app.router.add_post(DOWNLOAD, cut)
    async with serving(app) as url, firecracker(url) as executor:
        with pytest.raises(ProtocolFault):
            await content(executor, "a.txt")


@pytest.mark.parametrize("tells_length", [True, False])
async def test_a_content_without_end_is_stopped_at_the_cap_with_little_memory(tells_length):
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        if tells_length:
            response.content_length = 2**62
        await response.prepare(request)
        await response.write(b'{"success":true,"content":"')
        piece = b"QUJD" * 16_384
        while True:
            sent += len(piece)
            await response.write(piece)

    app = web.Application()
    app.router.add_post(DOWNLOAD, endless)
    cap = 24 * 1024 * 1024
    async with serving(app) as url, firecracker(url, max_file=cap) as executor:
        tracemalloc.start()
        try:
            with pytest.raises(TooLarge):
                await content(executor, "a.txt")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak < 8 * 1024 * 1024
    assert sent < (2**23 if tells_length else 2 * cap)


async def test_a_listing_that_is_wrong_a_million_times_is_refused_at_the_first():
    """Otherwise every mistake becomes an object: gigabytes, and seconds without the event loop."""
    answer = output("x\n" * 1_000_000 + ". end\n")

    async with facing({EXECUTE: answer}) as executor:
        tracemalloc.start()
        try:
            with pytest.raises(ProtocolFault):
                await names(executor)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak < 8 * len(answer)


@pytest.mark.parametrize(
    "answer",
    [
        *[
            output(line(path) + ". end\n")
            for path in ("..", "../x", "/etc", "a//b", "a/", "a/../b", "./a", b"a\0", "x" * 256)
        ],
        output(line("b") + line("a") + ". end\n"),
        output(line("a") + line("a") + ". end\n"),
        output(line("a/b/c/d") + ". end\n"),
        output(line("/".join(["d" * 200] * 21)) + ". end\n"),
        *[
            output(line("a", head) + ". end\n")
            for head in (
                "x 1 1 644",
                "l 1 1 644",
                "f -1 1 644",
                "f 9223372036854775808 1 644",
                "f 99999999999999999999 1 644",
                "f NaN 1 644",
                "f 1 1e9 644",
                "f 1 1 888",
                "f 1 1",
                "f  1 1 644",
                "f ١ 1 644",
            )
        ],
        output("f 1 1 644 a\n. end\n"),
        output("f 1 1 644 a===\n. end\n"),
        output("f 1 1 644 !!!!\n. end\n"),
        output(line("a")),
        output(line("a") + ". end"),
        output(line("a") + ". end\n. end\n"),
        output(line("a") + ". end\nmore"),
        output(". nonsense\n"),
        output(". more\n"),
        output(""),
        output("Traceback\n"),
        output("".join(line(f"{n:07}") for n in range(20_001)) + ". end\n"),
        output("x" * 9_000_000),
        output(". end\n", success="yes"),
        output(". end\n", stdout=None),
        b'{"success":true}',
        b"[" * 100_000,
    ],
    ids=lambda answer: answer[:70],
)
async def test_a_tree_that_cannot_be_is_a_fault(answer):
    async with facing({EXECUTE: answer}) as executor:
        with pytest.raises(ProtocolFault):
            await names(executor, depth=3)


async def test_a_tree_that_never_advances_is_a_fault():
    answers = iter([output(line("a") + ". more\n"), output(line("a") + ". more\n")])

    async def same(request: web.Request) -> web.Response:
        return web.Response(body=next(answers), content_type="application/json")

    app = web.Application()
    app.router.add_post(EXECUTE, same)
    async with serving(app) as url, firecracker(url) as executor:
        with pytest.raises(ProtocolFault):
            await names(executor, depth=3)


async def test_a_program_that_failed_is_an_outage():
    async with facing({EXECUTE: output(". end\n", success=False)}) as executor:
        with pytest.raises(Unavailable):
            await names(executor, depth=3)


async def test_its_words_never_reach_the_client():
    secret = output("", success=False, error="password=hunter2")
    async with facing({EXECUTE: secret}) as executor:
        with pytest.raises(GatewayError) as raised:
            await names(executor)

    assert "hunter2" not in raised.value.message


async def test_the_token_goes_with_every_call(monkeypatch):
    monkeypatch.setenv("FIRECRACKER_TOKEN", "t0k3n")
    seen = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        return web.Response(body=output(". end\n"), content_type="application/json")

    app = web.Application()
    app.router.add_post(EXECUTE, answer)
    async with (
        serving(app) as url,
        firecracker(url, token={"env": "FIRECRACKER_TOKEN"}) as executor,
    ):
        await names(executor)

    assert seen == ["Bearer t0k3n"]


async def test_large_answers_do_without_the_threads_that_names_are_looked_up_in():
    """Or one backend's would keep the gateway from every other."""
    released = threading.Event()
    threads = ThreadPoolExecutor(1)
    threads.submit(released.wait)
    asyncio.get_running_loop().set_default_executor(threads)
    answer = output("".join(line(f"f{number:04}") for number in range(5_000)) + ". end\n")

    async with facing({EXECUTE: answer}) as executor:
        try:
            found = await asyncio.wait_for(names(executor), 20)
        finally:
            released.set()

    assert len(found) == 5_000
