"""Each dialect's archive: its parameters, its names, its statuses and its words."""

import io
import tarfile
import zipfile
from collections.abc import AsyncIterator

import pytest

from gateway.domain.archives import Format
from gateway.domain.errors import (
    ArchiveFailed,
    GatewayError,
    NotReadable,
    NoWorkspace,
    Outage,
    PathRefused,
    SessionNotFound,
    TimedOut,
    TooLarge,
    TooManyRequests,
    Unavailable,
    WorkspaceChanged,
)
from gateway.http.archives import format_named
from tests.doubles.packing import Packer, packing_gateway
from tests.gateways import Gateway, key_entry
from tests.wire import Answer

FILES = {"a.txt": b"a", "logs/x": b"x", "reports/q1.csv": b"1", "reports/old/q0.csv": b"0"}
RUN = "a1b2c3d4-e5f6-7890-abcd-ef1234567890"
KEY = key_entry(scopes=["archives:read"], sessions=["s*", "a*", "gone"])

NATIVE = "/api/v1/sessions/{}/archive"
DARI = "/v1/sessions/{}/workspace.zip"
BLACKBOX = "/api/v1/tasks/{}/files/download"
ROUTES = {"native": NATIVE, "dari": DARI, "blackbox": BLACKBOX}


@pytest.fixture
def packer() -> Packer:
    return Packer({"s1": FILES, "sess_123": FILES, RUN: FILES, "foreign": FILES})


@pytest.fixture
async def gateway(packer: Packer) -> AsyncIterator[Gateway]:
    async with packing_gateway(packer, {"auth": {"keys": [KEY]}}) as running:
        yield running


def names(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.body
    if answer.header("Content-Type") == "application/zip":
        with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
            return archive.namelist()
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
        return tar.getnames()


# --- native ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "name", "media_type"),
    [
        ("", "zip", "application/zip"),
        ("?format=zip", "zip", "application/zip"),
        ("?format=tar", "tar", "application/x-tar"),
        ("?format=tar.gz", "tar.gz", "application/gzip"),
    ],
)
async def test_native_formats(gateway: Gateway, query: str, name: str, media_type: str) -> None:
    answer = await gateway.ask(NATIVE.format("s1") + query)

    assert sorted(names(answer)) == sorted(FILES)
    assert answer.header("Content-Type") == media_type
    disposition = f'attachment; filename="workspace-s1.{name}"'
    assert answer.header("Content-Disposition") == disposition


@pytest.mark.parametrize("has_zstd", [False, True])
def test_tar_zst_is_for_those_who_have_the_library(has_zstd: bool) -> None:
    if has_zstd:
        assert format_named("tar.zst", stored=False, has_zstd=True) is Format.TAR_ZST
    else:
        with pytest.raises(GatewayError, match=r"\[zstd\]"):
            format_named("tar.zst", stored=False, has_zstd=False)


async def test_native_parameters_say_what_to_pack(gateway: Gateway, packer: Packer) -> None:
    query = "?path=reports&path=reports/old/&path=./reports&path=logs&exclude=*.o&exclude=!a+b.o"
    answer = await gateway.ask(
        NATIVE.format("s1") + query + "&gitignore=1&stored=true&manifest=1&unknown=x"
    )

    packing, _ = packer.opened[0]
    assert names(answer) == ["logs/x", "reports/old/q0.csv", "reports/q1.csv"]
    assert [path.relative for path in packing.paths] == ["logs", "reports"]
    assert packing.exclude == ("*.o", "!a b.o")
    assert (packing.gitignore, packing.stored, packing.manifest) == (True, True, True)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("format=rar", "format: must be zip, tar, tar.gz or tar.zst"),
        ("format=", "format: must be zip, tar, tar.gz or tar.zst"),
        ("format=ZIP", "format: must be zip, tar, tar.gz or tar.zst"),
        ("format=zip&format=tar", "format: given more than once"),
        ("stored=yes", "stored: must be true, false, 1 or 0"),
        ("format=tar.gz&stored=1", "stored: only a zip or a tar can be"),
        ("gitignore=x", "gitignore: must be true, false, 1 or 0"),
        ("exclude=%ff", "exclude: not valid UTF-8"),
    ],
)
async def test_a_bad_native_parameter_is_named(
    gateway: Gateway, packer: Packer, query: str, message: str
) -> None:
    answer = await gateway.ask(NATIVE.format("s1") + "?" + query)

    assert (answer.status, answer.json) == (400, {"error": message})
    assert packer.opened == []


# --- Dari -----------------------------------------------------------------------------------------


async def test_dari_sends_the_workspace_as_documented(gateway: Gateway) -> None:
    answer = await gateway.ask(DARI.format("sess_123"))

    assert sorted(names(answer)) == sorted(FILES)
    assert answer.header("Content-Type") == "application/zip"
    disposition = 'attachment; filename="workspace-sess_123.zip"'
    assert answer.header("Content-Disposition") == disposition


@pytest.mark.parametrize(
    "query",
    [
        "path=reports",
        "path=reports/",
        "path=/workspace/reports",
        "path=%2Fworkspace%2Freports%2F",
        "path=/workspace//reports",
        "path=./reports",
        "path=reports&path=reports",
        "path=reports&path=/workspace/reports/old",
    ],
)
async def test_dari_names_one_directory_in_many_ways(gateway: Gateway, query: str) -> None:
    """Names in the archive stay relative to the workspace, and none is there twice."""
    answer = await gateway.ask(DARI.format("s1") + "?" + query)

    assert names(answer) == ["reports/old/q0.csv", "reports/q1.csv"]


async def test_dari_takes_several_directories(gateway: Gateway) -> None:
    answer = await gateway.ask(DARI.format("s1") + "?path=reports/old&path=/workspace/logs")

    assert names(answer) == ["logs/x", "reports/old/q0.csv"]


# --- Blackbox -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "name", "media_type"),
    [
        ("", "workspace-a1b2c3d4.zip", "application/zip"),
        ("?format=zip", "workspace-a1b2c3d4.zip", "application/zip"),
        ("?format=tar", "workspace-a1b2c3d4.tar.gz", "application/gzip"),
    ],
)
@pytest.mark.parametrize("is_spooled", [False, True])
async def test_blackbox_always_tells_the_length(
    gateway: Gateway, packer: Packer, is_spooled: bool, query: str, name: str, media_type: str
) -> None:
    packer.is_spooled = is_spooled

    got = await gateway.ask(BLACKBOX.format(RUN) + query)
    asked = await gateway.ask(BLACKBOX.format(RUN) + query, method="HEAD")

    assert sorted(names(got)) == sorted(FILES)
    assert got.header("Content-Type") == media_type
    assert got.header("Content-Disposition") == f'attachment; filename="{name}"'
    for answer in (got, asked):
        assert answer.header("Content-Length") == str(len(got.body))
        assert answer.header("Transfer-Encoding") is None
    assert [archive.prepared for _, archive in packer.opened] == [[True], [True]]


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("/vercel/sandbox", 4),
        ("/vercel/sandbox/", 4),
        ("/vercel/sandbox/reports", 2),
        ("reports", 2),
        ("/vercel/sandbox/reports/old/.", 1),
    ],
)
async def test_blackbox_paths_begin_where_its_sandbox_is(
    gateway: Gateway, path: str, kept: int
) -> None:
    answer = await gateway.ask(BLACKBOX.format("s1") + f"?path={path}")

    assert len(names(answer)) == kept


@pytest.mark.parametrize(
    ("path", "status"),
    [("/home/user/reports", 200), ("/vercel/sandbox/reports", 400), ("/home/user2/reports", 400)],
)
async def test_where_the_sandbox_is_can_be_configured(
    packer: Packer, path: str, status: int
) -> None:
    changes = {"dialects": {"blackbox": {"root": "/home/user"}}, "auth": {"keys": [KEY]}}
    async with packing_gateway(packer, changes) as gateway:
        answer = await gateway.ask(BLACKBOX.format("s1") + f"?path={path}")

    assert answer.status == status


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("format=tar.gz", "format: must be zip or tar"),
        ("format=", "format: must be zip or tar"),
        ("path=a&path=b", "path: given more than once"),
        ("path=/vercel", "invalid path: absolute paths not allowed"),
        ("path=/vercel/sandboxes", "invalid path: absolute paths not allowed"),
    ],
)
async def test_a_bad_blackbox_parameter_is_named(
    gateway: Gateway, query: str, message: str
) -> None:
    answer = await gateway.ask(BLACKBOX.format("s1") + "?" + query)

    assert (answer.status, answer.json) == (400, {"error": message})


# --- the status table -----------------------------------------------------------------------------


def body_of(dialect: str, message: str) -> dict[str, str]:
    """The error format."""
    return {"error": message, "detail": message} if dialect == "dari" else {"error": message}


NO_SANDBOX = "No sandbox available for this task"
ASKED = {
    # what is asked for: in each dialect, the status and the message
    ("-", ""): {
        "native": (400, "invalid session id"),
        "dari": (404, "invalid session id"),
        "blackbox": (404, NO_SANDBOX),
    },
    ("s9", ""): {
        "native": (404, "session not found"),
        "dari": (404, "session not found"),
        "blackbox": (404, NO_SANDBOX),
    },
    ("foreign", ""): {
        "native": (404, "session not found"),
        "dari": (403, "the session belongs to another organization"),
        "blackbox": (403, "Task belongs to a different user"),
    },
    ("s1", "?path=missing"): {
        "native": (404, "file not found"),
        "dari": (400, "file not found"),
        "blackbox": (404, "file not found"),
    },
    ("s1", "?path=a.txt"): dict.fromkeys(ROUTES, (400, "not a directory")),
    ("s1", "?path=../x"): dict.fromkeys(ROUTES, (400, "invalid path: traversal not allowed")),
}
RAISED: dict[GatewayError, dict[str, tuple[int, str]]] = {
    PathRefused("a link leaves"): dict.fromkeys(ROUTES, (400, "a link leaves")),
    NotReadable("file not readable"): dict.fromkeys(ROUTES, (404, "file not readable")),
    TooLarge("too large: 'big'"): dict.fromkeys(ROUTES, (413, "too large: 'big'")),
    TooManyRequests("x", "too many", 1): dict.fromkeys(ROUTES, (429, "too many")),
    WorkspaceChanged(): dict.fromkeys(
        ROUTES, (503, "the workspace changed while the archive was made")
    ),
    Unavailable("no executor"): dict.fromkeys(ROUTES, (502, "no executor")),
    TimedOut("too late"): dict.fromkeys(ROUTES, (502, "too late")),
    Outage("out"): dict.fromkeys(ROUTES, (502, "out")),
    SessionNotFound("session not found"): ASKED["s9", ""],
    NoWorkspace("session not found"): {
        "native": (404, "session not found"),
        "dari": (409, "the session has no workspace yet; run it first, then retry"),
        "blackbox": (404, NO_SANDBOX),
    },
    ArchiveFailed("zip: no space left"): {
        "native": (500, "zip: no space left"),
        "dari": (500, "zip: no space left"),
        "blackbox": (500, "Failed to create archive: zip: no space left"),
    },
}


@pytest.mark.parametrize("dialect", ROUTES)
@pytest.mark.parametrize(("session", "query"), ASKED)
async def test_what_is_asked_for_in_vain(
    gateway: Gateway, dialect: str, session: str, query: str
) -> None:
    answer = await gateway.ask(ROUTES[dialect].format(session) + query)
    asked = await gateway.ask(ROUTES[dialect].format(session) + query, method="HEAD")

    status, message = ASKED[session, query][dialect]
    assert (answer.status, answer.json) == (status, body_of(dialect, message))
    assert answer.header("Content-Type") == "application/json; charset=utf-8"
    assert answer.header("Content-Disposition") is None
    assert (asked.status, asked.body) == (status, b"")


@pytest.mark.parametrize("dialect", ROUTES)
@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
async def test_what_cannot_be_had(
    gateway: Gateway, packer: Packer, dialect: str, error: GatewayError
) -> None:
    packer.cannot_open = error

    answer = await gateway.ask(ROUTES[dialect].format("s1"))

    status, message = RAISED[error][dialect]
    assert (answer.status, answer.json) == (status, body_of(dialect, message))
    assert answer.header("Retry-After") == ("1" if status in (429, 503) else None)


@pytest.mark.parametrize("dialect", ROUTES)
async def test_a_wrong_method_has_the_dialects_error(gateway: Gateway, dialect: str) -> None:
    answer = await gateway.ask(ROUTES[dialect].format("s1"), method="POST")

    assert (answer.status, answer.json) == (405, body_of(dialect, "method not allowed"))
    assert answer.header("Allow") == "GET,HEAD"
