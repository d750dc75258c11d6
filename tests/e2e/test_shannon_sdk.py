"""The published Shannon SDK, as people install it, against a gateway on a socket."""

import asyncio
import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import shannon
from shannon import errors

from tests.gateways import KEY, Gateway, plant, threaded

NOT_TEXT = ("binary.bin", "one.bin", "control.txt", "latin-1.json")
BINARY = bytes(range(256)) * 3001  # over the 256 KiB that are read in one go, and not by thirds
TEXT = 'line one\n"quoted" \\ back\tslash\r\né 日本 \U0001f600\n'
NAMES = {
    "plain.txt": TEXT.encode(),
    "output/results.csv": b"a,b\n1,2\n",
    "a name with spaces.txt": b"spaces",
    "Übergröße.txt": "Umlaute: äöü".encode(),
    "100% #1?.txt": b"reserved",
    "a+b&c=d;e.txt": b"more of them",
    "binary.bin": BINARY,
    "one.bin": b"\xff",
    "control.txt": b"UTF-8, but a\x01control byte makes it no text",
    "latin-1.json": '{"café": 1}'.encode("latin-1"),
    "long.txt": ("é" * 300_000).encode(),  # cut into pieces between the bytes of a character
    "empty.txt": b"",
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    root = plant(tmp_path_factory.mktemp("sdk"), {f"s1/{n}": c for n, c in NAMES.items()})
    with threaded(root) as running_gateway:
        yield running_gateway


@pytest.fixture
def client(gateway: Gateway) -> Iterator[shannon.ShannonClient]:
    sdk = shannon.ShannonClient(base_url=_url(gateway), api_key=KEY)
    with sdk:
        yield sdk
    if sdk._loop is not None:  # its close() leaves the loop open
        sdk._loop.close()
    asyncio.set_event_loop(None)


def _url(gateway: Gateway) -> str:
    return f"http://127.0.0.1:{gateway.port}"


def test_the_sync_client_lists(client: shannon.ShannonClient) -> None:
    files = {entry.path: entry for entry in client.list_session_files("s1")}

    expected = {name: content for name, content in NAMES.items() if "/" not in name}
    assert set(files) == {*expected, "output"}
    for name, content in expected.items():
        assert (files[name].name, files[name].is_dir) == (name, False)
        assert files[name].size_bytes == len(content)
    assert (files["output"].is_dir, files["output"].size_bytes) == (True, 0)


def test_the_sync_client_lists_a_directory(client: shannon.ShannonClient) -> None:
    (entry,) = client.list_session_files("s1", path="output")

    assert (entry.name, entry.path, entry.size_bytes) == ("results.csv", "output/results.csv", 8)


@pytest.mark.parametrize("name", NAMES)
def test_the_sync_client_downloads(client: shannon.ShannonClient, name: str) -> None:
    file = client.download_session_file("s1", name)

    assert file.size_bytes == len(NAMES[name])
    if name in NOT_TEXT:
        assert base64.b64decode(file.content, validate=True) == NAMES[name]
        assert file.content_type == "application/octet-stream"
    else:
        assert file.content == NAMES[name].decode()


def test_what_was_listed_can_be_downloaded(client: shannon.ShannonClient) -> None:
    for entry in client.list_session_files("s1"):
        if not entry.is_dir:
            assert client.download_session_file("s1", entry.path).size_bytes == entry.size_bytes


@pytest.mark.parametrize(
    ("session", "path", "kind", "message"),
    [
        ("s1", "missing.txt", errors.SessionNotFoundError, "file not found"),
        ("unknown", "plain.txt", errors.SessionNotFoundError, "session not found"),
        ("s1", "output", errors.ValidationError, "not a file"),
        ("s1", "../s2/x", errors.ShannonError, "not found"),  # httpx collapses it before it leaves
        ("s1", "..%2f/x", errors.SessionNotFoundError, "file not found"),
        ("s1", "/etc/passwd", errors.ValidationError, "invalid path: absolute paths not allowed"),
    ],
)
def test_refusals_are_the_sdks_exceptions(
    client: shannon.ShannonClient,
    session: str,
    path: str,
    kind: type[errors.ShannonError],
    message: str,
) -> None:
    with pytest.raises(kind) as caught:
        client.download_session_file(session, path)

    assert message in caught.value.message


def test_a_wrong_key_is_an_authentication_error(gateway: Gateway) -> None:
    for credentials in ({"api_key": "wrong"}, {"bearer_token": "wrong"}, {}):
        with (
            shannon.ShannonClient(base_url=_url(gateway), **credentials) as sdk,
            pytest.raises(errors.AuthenticationError, match="missing or invalid credentials"),
        ):
            sdk.list_session_files("s1")
        if sdk._loop is not None:
            sdk._loop.close()
        asyncio.set_event_loop(None)


async def test_the_async_client(gateway: Gateway) -> None:
    async with shannon.AsyncShannonClient(base_url=_url(gateway), bearer_token=KEY) as sdk:
        files = await sdk.list_session_files("s1")
        downloads = await asyncio.gather(*(sdk.download_session_file("s1", n) for n in NAMES))
        with pytest.raises(errors.SessionNotFoundError):
            await sdk.download_session_file("s1", "missing")
        with pytest.raises(errors.ValidationError):
            await sdk.list_session_files("s1", path="../s2")

    assert len(files) == len(NAMES)
    assert [file.size_bytes for file in downloads] == [len(c) for c in NAMES.values()]


def _command(gateway: Gateway, *arguments: str, key: str = KEY) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("shannon")
    return subprocess.run(
        [program, "--base-url", _url(gateway), "--api-key", key, *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "NO_PROXY": "*"},
        check=False,
    )


def test_its_command_line(gateway: Gateway) -> None:
    listed = _command(gateway, "session-files", "s1", "--path", "output")
    got = _command(gateway, "session-file-get", "s1", "Übergröße.txt")
    binary = _command(gateway, "session-file-get", "s1", "one.bin")
    missing = _command(gateway, "session-file-get", "s1", "missing")
    rejected = _command(gateway, "session-files", "s1", key="wrong")

    assert listed.returncode == 0, listed.stderr
    assert "file              8 output/results.csv" in listed.stdout
    assert "Content-Type: text/plain; charset=utf-8\nSize: 15\n\nUmlaute: äöü\n" in got.stdout
    assert binary.stdout.endswith("\n/w==\n")
    assert "file not found" in missing.stdout + missing.stderr
    assert "missing or invalid credentials" in rejected.stdout + rejected.stderr
    assert missing.returncode != 0
    assert rejected.returncode != 0
