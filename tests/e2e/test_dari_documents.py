"""The commands of Dari's documentation, as they stand there, against the demo.

They ask `https://api.dari.dev`, which is made to be a TLS terminator in front of the demo here.
"""

import asyncio
import io
import os
import re
import ssl
import subprocess
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import orjson
import pytest
import trustme

from tests import needs
from tests.e2e.demos import Demo, demo

KEY = "dari_test_123"

CREATE = """\
curl -X POST https://api.dari.dev/v1/agents/agt_123/sessions \\
  -H "Authorization: Bearer $DARI_API_KEY"
"""
DOWNLOAD = """\
curl "https://api.dari.dev/v1/sessions/sess_123/workspace.zip" \\
  -H "Authorization: Bearer $DARI_API_KEY" \\
  -o workspace-sess_123.zip
"""
DOWNLOAD_SOME = """\
curl "https://api.dari.dev/v1/sessions/sess_123/workspace.zip?path=reports&path=logs" \\
  -H "Authorization: Bearer $DARI_API_KEY" \\
  -o workspace-subdirs.zip
"""
DOCUMENTED = {
    "name": None,
    "agent_id": "agt_123",
    "version_id": "ver_9",
    "storage_binding_id": None,
    "internet_access": False,
    "status": "idle",
    "last_message_id": None,
    "last_message_status": None,
    "metadata": {},
}


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    needs.program("curl")
    with demo(tmp_path_factory.mktemp("demo"), WORKSPACE_GATEWAY_KEY=KEY) as running:
        yield running


async def run(command: str, demo: Demo, cwd: Path) -> bytes:
    """Run *command* verbatim; return what it prints."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(cwd / "ca.pem"))
    async with terminator(authority, demo.port) as port:
        (cwd / ".curlrc").write_text(
            f'connect-to = "api.dari.dev:443:127.0.0.1:{port}"\n'
            f'cacert = "{cwd}/ca.pem"\nsilent\nshow-error\n'
        )
        done = await asyncio.to_thread(
            subprocess.run,
            ["sh", "-c", command],
            cwd=cwd,
            env={**os.environ, "CURL_HOME": str(cwd), "no_proxy": "*", "DARI_API_KEY": KEY},
            capture_output=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return bytes(done.stdout)


@asynccontextmanager
async def terminator(authority: trustme.CA, behind: int) -> AsyncIterator[int]:
    """A port on which `api.dari.dev` answers by TLS what *behind* answers."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("api.dari.dev").configure_cert(context)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while piece := await reader.read(65536):
                writer.write(piece)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_connection("127.0.0.1", behind)
        await asyncio.gather(pump(reader, outer), pump(inner, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_create(documented: Demo, tmp_path: Path) -> None:
    session = orjson.loads(await run(CREATE, documented, tmp_path))

    assert re.fullmatch("sess_[A-Za-z0-9]+", session.pop("id"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", session.pop("created_at"))
    assert session == DOCUMENTED


async def test_create_with_metadata_and_secrets(documented: Demo, tmp_path: Path) -> None:
    body = '{"metadata": {"managed_run_id": "7"}, "secrets": {"GITHUB_TOKEN": "t0p"}}'
    more = f" -H 'Content-Type: application/json' -d '{body}'"

    session = orjson.loads(await run(CREATE.strip() + more, documented, tmp_path))
    target = f"https://api.dari.dev/v1/sessions/{session['id']}/workspace.zip"
    zipped = await run(f'curl {target} -H "Authorization: Bearer {KEY}"', documented, tmp_path)

    assert session["metadata"] == {"managed_run_id": "7"}
    with zipfile.ZipFile(io.BytesIO(zipped)) as archive:
        assert archive.namelist() == []


async def test_download(documented: Demo, tmp_path: Path) -> None:
    assert await run(DOWNLOAD, documented, tmp_path) == b""
    assert await run(DOWNLOAD_SOME, documented, tmp_path) == b""

    with zipfile.ZipFile(tmp_path / "workspace-sess_123.zip") as archive:
        assert {"analysis.py", "reports/summary.md", "logs/run.log"} <= {*archive.namelist()}
    with zipfile.ZipFile(tmp_path / "workspace-subdirs.zip") as archive:
        files = [name for name in archive.namelist() if not name.endswith("/")]
        assert files == ["logs/run.log", "reports/summary.md"]
