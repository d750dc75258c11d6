"""The rows of `hostile-cases.md` that an archive's request alone decides: 8, 9, 10, 29 and 30."""

from collections.abc import AsyncIterator

import pytest

from tests.doubles.packing import Packer, packing_gateway
from tests.gateways import AUTH, KEY, Gateway, key_entry
from tests.wire import Answer, ask

FILES = {"ok/a": b"a", "b": b"b"}
NATIVE = "/api/v1/sessions/{}/archive"
DARI = "/v1/sessions/{}/workspace.zip"
BLACKBOX = "/api/v1/tasks/{}/files/download"
ROUTES = [NATIVE, DARI, BLACKBOX]


@pytest.fixture
def packer() -> Packer:
    return Packer({"s1": FILES, "foreign": FILES})


@pytest.fixture
async def gateway(packer: Packer) -> AsyncIterator[Gateway]:
    keys = [key_entry(scopes=["archives:read"], sessions=["s*"])]
    async with packing_gateway(packer, {"auth": {"keys": keys}}) as running:
        yield running


def fixed(answer: Answer) -> dict[str, str]:
    return {k: v for k, v in answer.headers if k not in ("Date", "X-Request-ID")}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("ok%00", "NUL byte not allowed"),
        ("%00", "NUL byte not allowed"),
        ("../x", "traversal not allowed"),
        ("..", "traversal not allowed"),
        ("ok/../..", "traversal not allowed"),
        ("%2e%2e%2fx", "traversal not allowed"),
        ("..%5cx", "traversal not allowed"),
        ("/../x", "traversal not allowed"),
        ("/workspace/../x", "traversal not allowed"),
        ("/vercel/sandbox/../x", "traversal not allowed"),
        ("%2Fetc", "absolute paths not allowed"),
        ("//", "absolute paths not allowed"),
        ("//etc", "absolute paths not allowed"),
        ("/workspaces", "absolute paths not allowed"),
        ("//workspace/ok", "absolute paths not allowed"),
        ("%ff", "not valid UTF-8"),
    ],
)
async def test_a_bad_path_is_refused_before_any_work(
    gateway: Gateway, packer: Packer, route: str, raw: str, message: str
) -> None:
    """Rows 8 and 9; a good path beside it changes nothing."""
    others = [f"path={raw}"]
    if route != BLACKBOX:
        others += [f"path=ok&path={raw}", f"path={raw}&path=ok"]

    for query in others:
        answer = await gateway.ask(route.format("s1") + "?" + query)
        assert answer.status == 400
        assert answer.json["error"] == f"invalid path: {message}"
    assert packer.opened == []


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("query", ["", "?", "?path=", "?path", "?path=.", "?path=./", "?path=./."])
async def test_no_path_is_the_whole_workspace(gateway: Gateway, route: str, query: str) -> None:
    """Row 10."""
    answer = await gateway.ask(route.format("s1") + query)

    assert answer.status == 200
    assert answer.header("X-Archive-Entries") == "2"
    assert answer.body.startswith(b"PK")


@pytest.mark.parametrize("route", [NATIVE, DARI])
@pytest.mark.parametrize(("count", "status"), [(100, 200), (101, 400), (1001, 400)])
async def test_so_many_paths_and_no_more(
    gateway: Gateway, route: str, count: int, status: int
) -> None:
    """Row 10."""
    answer = await gateway.ask(route.format("s1") + "?" + "&".join(["path=ok"] * count))

    assert answer.status == status
    if status == 400:
        assert answer.json["error"] == "path: given more than 100 times"


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(("length", "status"), [(4095, {400, 404}), (4096, {400}), (9000, {400})])
async def test_a_path_is_so_long_and_no_longer(
    gateway: Gateway, route: str, length: int, status: set[int]
) -> None:
    """Row 10; the longest is a path, but there is nothing."""
    answer = await gateway.ask(route.format("s1") + "?path=" + "x" * length)

    refused = "invalid path: longer than 4095 bytes"
    assert answer.status in status
    assert answer.json["error"] == ("file not found" if length == 4095 else refused)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    "lines",
    [
        (),
        ("X-API-Key:",),
        ("X-API-Key: wrong",),
        (AUTH, AUTH),
        (AUTH, "Authorization: Bearer other"),
        (b"X-API-Key: \xff\xfe",),
        ("X-API-Key: café",),
        ("X-API-Key: " + "k" * 8192,),
    ],
    ids=lambda lines: repr(lines)[:40],
)
async def test_without_a_good_key_everything_looks_alike(
    gateway: Gateway, packer: Packer, route: str, lines: tuple[str | bytes, ...]
) -> None:
    """Row 29: also whether the session or the parameters would be good."""
    seen = set()
    for target in ("s1", "s9", "foreign", "-", "s1?path=../x", f"s1?key={KEY}&access_token={KEY}"):
        session, _, query = target.partition("?")
        for method in ("GET", "HEAD"):
            answer = await ask(
                gateway.port, f"{route.format(session)}?{query}", *lines, method=method
            )
            assert answer.status == 401
            assert answer.header("WWW-Authenticate") == 'Bearer realm="workspace-gateway"'
            seen.add((method, answer.body, tuple(fixed(answer).items())))

    assert len(seen) == 2
    assert packer.opened == []


@pytest.mark.parametrize("route", ROUTES)
async def test_a_scope_is_needed(packer: Packer, route: str) -> None:
    keys = [key_entry(scopes=["files:read", "sessions:read"])]
    async with packing_gateway(packer, {"auth": {"keys": keys}}) as gateway:
        answers = [await gateway.ask(route.format(session)) for session in ("s1", "s9")]

    for answer in answers:
        assert answer.status == 403
        assert answer.json["error"] == "this key lacks the scope archives:read"


@pytest.mark.parametrize(("route", "status"), [(NATIVE, 404), (DARI, 403), (BLACKBOX, 403)])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_foreign_session_tells_nothing_of_itself(
    gateway: Gateway, packer: Packer, route: str, status: int, method: str
) -> None:
    """Row 30: as the dialect has it; where that is 404, byte for byte as if it did not exist."""
    foreign, nowhere, unknown = [
        await gateway.ask(route.format(session), method=method)
        for session in ("foreign", "foreign2", "s9")
    ]

    assert foreign.status == status
    assert (foreign.body, fixed(foreign)) == (nowhere.body, fixed(nowhere))
    assert unknown.status == 404
    if status == 404:
        assert (foreign.body, fixed(foreign)) == (unknown.body, fixed(unknown))
    assert packer.opened == []
