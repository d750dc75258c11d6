"""Whose answer it is, is told of errors as of files: in the head and in the log."""

import json
from pathlib import Path

import pytest

from tests.gateways import AUTH, command, key_entry, plant, running
from tests.wire import ask

SESSION = "/api/v1/sessions/s1"
MISSING = SESSION + "/files/missing"
LARGE = SESSION + "/files/large"
REFUSALS = {
    MISSING: 404,
    SESSION + "/files/out": 400,
    SESSION + "/files/away": 400,
    LARGE: 413,
    SESSION + "/files?path=missing": 404,
    SESSION + "/files?path=a": 400,
    SESSION + "/archive?path=missing": 404,
    SESSION + "/archive": 413,
}
BEHIND_ONE_THAT_IS_DOWN = {
    "auth": {"keys": [key_entry(scopes=["files:read", "archives:read"])]},
    "limits": {"file": "10B", "requests_per_minute": 0, "requests_at_once": 0},
    "executors": {"edge": {"type": "gateway", "url": "unix:///nobody/there.sock"}},
    "placement": {"default": {"executor": "edge", "fallback": ["local"]}},
}
ALONE = {**BEHIND_ONE_THAT_IS_DOWN, "placement": {"default": {"executor": "local"}}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {"s1/a": b"a", "s1/large": b"12345678901", "s1/out/b": b"b", "s1/away": "/etc/passwd"}
    return plant(tmp_path / "workspaces", files)


@pytest.mark.parametrize("target", REFUSALS)
@pytest.mark.parametrize(
    ("config", "reason"), [(ALONE, None), (BEHIND_ONE_THAT_IS_DOWN, "unreachable")]
)
async def test_an_error_says_whose_answer_it_is(root, target, config, reason):
    async with running(root, config) as gateway:
        answer = await gateway.ask(target)

    assert answer.status == REFUSALS[target]
    assert answer.header("X-Workspace-Source") == "local"
    assert answer.header("X-Workspace-Fallback") == reason


@pytest.mark.parametrize(("condition", "status"), [("If-Match: x", 412), ("Range: bytes=9-", 416)])
async def test_so_does_one_that_is_found_when_the_file_is_open(root, condition, status):
    async with running(root, BEHIND_ONE_THAT_IS_DOWN) as gateway:
        answer = await gateway.file("a", condition)

    assert answer.status == status
    assert answer.header("X-Workspace-Source") == "local"
    assert answer.header("X-Workspace-Fallback") == "unreachable"


@pytest.mark.parametrize("target", [SESSION + "/files/../x", "/api/v1/sessions/none/files/a", "/x"])
async def test_an_error_of_the_gateway_itself_names_no_executor(root, target):
    """That there is no such session, too: who has been asked could tell that there is one."""
    async with running(root, ALONE) as gateway:
        answer = await gateway.ask(target)

    assert answer.status in (400, 404)
    assert answer.header("X-Workspace-Source") is None


async def test_where_nobody_answered_nobody_is_named(root):
    placement = {"default": {"executor": "edge"}}
    async with running(root, {**ALONE, "placement": placement}) as gateway:
        answer = await gateway.ask(MISSING)

    assert answer.status == 502
    assert answer.header("X-Workspace-Source") is None
    assert answer.header("X-Workspace-Fallback") is None


async def test_the_log_line_of_an_error_says_it_as_well(root, tmp_path):
    with command(tmp_path, root, BEHIND_ONE_THAT_IS_DOWN) as process:
        for target in (MISSING, LARGE):
            await ask(process.port, target, AUTH)
    records = [json.loads(line) for line in process.log.read_text().splitlines()]

    told = [(r["executor"], r["fallback"]) for r in records if r["event"] == "http_request"]
    assert told == [("local", "unreachable"), ("local", "unreachable")]
