"""Executors are not trusted: nothing of theirs but the bytes of files reaches a client, and
nothing of a client's reaches them or anybody that they point to.
"""

import pytest
from aiohttp import web

from tests import gateways
from tests.doubles import fault_proxy, faults
from tests.doubles.serving import routed, serving
from tests.doubles.fault_proxy import Answer, Exchange
from tests.faults.stage import OPERATIONS, staged
from tests.faults.subjects import SUBJECTS, TOKEN
from tests.gateways import KEY

EVIL = {
    "Set-Cookie": "evil=1",
    "X-Evil": "evil",
    "X-Workspace-Source": "evil",
    "X-Workspace-Fallback": "evil",
    "X-Request-ID": "evil",
    "X-Accel-Redirect": "/evil",
    "X-Sendfile": "/evil",
    "Location": "http://evil.invalid/",
    "Refresh": "0; url=http://evil.invalid/",
    "Link": "<http://evil.invalid/>; rel=preload",
    "Access-Control-Allow-Origin": "http://evil.invalid",
    "Content-Security-Policy": "default-src evil.invalid",
    "Content-Disposition": 'inline; filename="evil.html"',
    "Content-Language": "evil",
    "Cache-Control": "public, max-age=666",
    "WWW-Authenticate": "Basic realm=evil",
    "Server": "evil",
    "Via": "evil",
    "Trailer": "X-Evil",
    "Warning": "199 evil",
}


def with_evil_headers(answer: Answer) -> Answer:
    for name, value in EVIL.items():
        answer = answer.with_header(name, value)
    return answer


@pytest.fixture(params=SUBJECTS)
def subject(request):
    return SUBJECTS[request.param]


@pytest.fixture(params=OPERATIONS)
def operation(request):
    return OPERATIONS[request.param]


async def test_no_header_of_an_executor_reaches_the_client(subject, operation, tmp_path):
    async with staged(subject, tmp_path, faults.changed(with_evil_headers)) as stage:
        answer = await operation.ask(stage.gateway)

    assert operation.is_exact(answer)
    assert answer.header("X-Workspace-Source") == "remote"
    for name, value in answer.headers:
        assert "evil" not in value.lower()
        assert value != "public, max-age=666", name
    assert not {name.lower() for name, _ in answer.headers} & {"set-cookie", "x-evil", "location"}


async def test_the_type_of_a_file_is_not_what_an_executor_says(tmp_path):
    fault = faults.header("Content-Type", "text/html")

    async with staged(SUBJECTS["gateway"], tmp_path, fault) as stage:
        answer = await OPERATIONS["small"].ask(stage.gateway)

    assert answer.header("X-Workspace-Source") == "remote"
    assert answer.header("Content-Type") == "application/octet-stream"
    assert answer.header("X-Content-Type-Options") == "nosniff"


@pytest.mark.parametrize(
    "status", ["400 A", "401 B", "403 C", "404 D", "409 E", "413 F", "416 G", "429 H", "500 I"]
)
@pytest.mark.parametrize("local", [True, False], ids=["local", "no local"])
async def test_no_error_of_an_executor_reaches_the_client(
    subject, operation, status, local, tmp_path
):
    """Not its text, and not its status: that is one for the gateway."""
    headers = [f"{name}: {value}" for name, value in EVIL.items()]
    fault = faults.status(status, *headers, body=b"evil secret detail")

    async with staged(subject, tmp_path, fault, local=local) as stage:
        answer = await operation.ask(stage.gateway)

    assert operation.is_exact(answer) if local else answer.status == 502
    assert b"evil" not in answer.body
    assert not [value for _, value in answer.headers if "evil" in value.lower()]


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
@pytest.mark.parametrize("place", ["http://127.0.0.1:{}/x", "//127.0.0.1:{}/x", "file:///etc/{}"])
async def test_no_redirect_is_followed(subject, operation, status, place, tmp_path):
    async with fault_proxy.running(fault=faults.status("200 OK")) as other:
        fault = faults.status(f"{status} Elsewhere", "Location: " + place.format(other.port))
        async with staged(subject, tmp_path, fault) as stage:
            answer = await operation.ask(stage.gateway)

    assert operation.is_exact(answer)
    assert answer.header("X-Workspace-Fallback") == "protocol"
    assert other.requests == []


async def test_nothing_of_a_client_reaches_an_executor(subject, operation, tmp_path):
    headers = (
        "Cookie: client=1",
        "X-Forwarded-For: 10.9.8.7",
        "X-Client: client",
        "Referer: http://client.invalid/",
        "User-Agent: client",
        "Accept-Encoding: gzip, client",
    )
    target = f"/api/v1/sessions/s1/files{operation.target}"
    async with staged(subject, tmp_path) as stage:
        answer = await stage.gateway.ask(
            target, *operation.headers, *headers, method=operation.method
        )

    assert operation.is_exact(answer)
    assert stage.proxy.requests
    for request in stage.proxy.requests:
        assert KEY.encode() not in request
        assert b"client" not in request.lower()
        assert b"10.9.8.7" not in request
        assert b"Accept-Encoding: identity" in request


async def test_an_executor_is_shown_its_own_credential(tmp_path):
    async with staged(SUBJECTS["gateway"], tmp_path) as stage:
        await OPERATIONS["small"].ask(stage.gateway)

    assert TOKEN.encode() in stage.proxy.requests[0]


async def test_an_answer_that_nobody_asked_for_answers_nothing(subject, tmp_path):
    """What stands behind an answer on a connection that is kept is not the next one's."""
    evil = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\nevil"

    async def answers_twice(exchange: Exchange) -> None:
        answer = await exchange.answer()
        whole = answer.whole().replace(b"\r\nConnection: close", b"", 1)
        await exchange.say(whole + evil)
        await exchange.left()

    operation = OPERATIONS["small"]
    async with staged(subject, tmp_path, answers_twice) as stage:
        answers = [await operation.ask(stage.gateway) for _ in range(3)]

    assert all(operation.is_exact(answer) for answer in answers)


async def test_a_version_of_one_session_says_nothing_of_another(tmp_path):
    """Many a server makes its ETag of the time and the size alone."""
    contents = {"s1": b"only text", "s2": b"\x89PNG\r\n\x1a\n\0"}

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=contents[request.match_info["session"]], headers={"ETag": '"9-9"'})

    async with serving(routed(web.get("/api/v1/sessions/{session}/files/data", answer))) as url:
        changes = {
            "executors": {"remote": {"type": "gateway", "url": url}},
            "placement": {"default": {"executor": "remote"}},
        }
        async with gateways.running(tmp_path, changes) as gateway:
            types = [
                (await gateway.ask(f"/api/v1/sessions/{session}/files/data")).header("Content-Type")
                for session in ("s1", "s2", "s1")
            ]

    assert types == ["text/plain; charset=utf-8", "image/png", "text/plain; charset=utf-8"]
