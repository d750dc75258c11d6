"""The commands of Dari's and Blackbox's documentation, with our host and a key put in."""

import os
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from tests import needs
from tests.e2e.archiving import packing, unpacked
from tests.gateways import KEY, command, plant

DARI = """\
curl "https://api.dari.dev/v1/sessions/sess_123/workspace.zip" \\
  -H "Authorization: Bearer $DARI_API_KEY" \\
  -o workspace-sess_123.zip
"""
DARI_SUBDIRECTORIES = """\
curl "https://api.dari.dev/v1/sessions/sess_123/workspace.zip?path=reports&path=logs" \\
  -H "Authorization: Bearer $DARI_API_KEY" \\
  -o workspace-subdirs.zip
"""
BLACKBOX_ZIP = """\
curl -OJ 'https://agent.blackbox.ai/api/v1/tasks/a1b2c3d4-e5f6-7890-abcd-ef1234567890/files/download' \\
    -H 'Authorization: Bearer YOUR_API_KEY'
"""  # noqa: E501
BLACKBOX_TAR = """\
curl -OJ 'https://agent.blackbox.ai/api/v1/tasks/a1b2c3d4-e5f6-7890-abcd-ef1234567890/files/download?format=tar' \\
    -H 'Authorization: Bearer YOUR_API_KEY'
"""  # noqa: E501
RUN = "a1b2c3d4-e5f6-7890-abcd-ef1234567890"
FILES = {
    "reports/q1.csv": b"quarter,sold\n1,2\n",
    "reports/2026/q2.csv": b"quarter,sold\n2,3\n",
    "logs/agent.log": b"done\n" * 1000,
    "notes.md": b"# Notes\n",
}
EVERYTHING = {**FILES, **dict.fromkeys(("reports/", "reports/2026/", "logs/"), b"")}


@dataclass(frozen=True)
class Shell:
    """A directory in which commands find a gateway in the place of the documents' hosts."""

    directory: Path
    port: int

    def run(self, command: str) -> bytes:
        """Run *command* with this gateway's address and key; return what it prints."""
        here = f"http://127.0.0.1:{self.port}/"
        for host in ("https://api.dari.dev/", "https://agent.blackbox.ai/"):
            command = command.replace(host, here)
        (self.directory / ".curlrc").write_text("silent\nshow-error\n")
        done = subprocess.run(
            ["sh", "-c", command.replace("YOUR_API_KEY", KEY)],
            cwd=self.directory,
            env={
                **os.environ,
                "CURL_HOME": str(self.directory),
                "DARI_API_KEY": KEY,
                "no_proxy": "*",
            },
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout

    def saved(self) -> list[str]:
        """The names of the files that were saved."""
        return sorted(set(os.listdir(self.directory)) - {".curlrc"})


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    directory = tmp_path_factory.mktemp("seeds")
    for session in ("sess_123", RUN):
        plant(directory / "workspaces" / session, FILES)
    with command(directory, directory / "workspaces", packing()) as process:
        yield process.port


@pytest.fixture
def shell(tmp_path: Path, port: int) -> Shell:
    needs.program("curl")
    return Shell(tmp_path, port)


def test_dari(shell: Shell) -> None:
    assert shell.run(DARI) == b""

    assert shell.saved() == ["workspace-sess_123.zip"]
    archive = (shell.directory / "workspace-sess_123.zip").read_bytes()
    assert unpacked(archive) == EVERYTHING


def test_dari_names_the_file_as_its_document_does(shell: Shell) -> None:
    shell.run(DARI.replace("-o workspace-sess_123.zip", "-OJ"))

    assert shell.saved() == ["workspace-sess_123.zip"]


def test_dari_below_two_directories(shell: Shell) -> None:
    assert shell.run(DARI_SUBDIRECTORIES) == b""

    archive = (shell.directory / "workspace-subdirs.zip").read_bytes()
    assert unpacked(archive) == {n: EVERYTHING[n] for n in EVERYTHING if n != "notes.md"}


def test_blackbox_zip(shell: Shell) -> None:
    shell.run(BLACKBOX_ZIP)

    assert shell.saved() == ["workspace-a1b2c3d4.zip"]
    assert unpacked((shell.directory / "workspace-a1b2c3d4.zip").read_bytes()) == EVERYTHING


def test_blackbox_tar(shell: Shell) -> None:
    shell.run(BLACKBOX_TAR)

    assert shell.saved() == ["workspace-a1b2c3d4.tar.gz"]
    with tarfile.open(shell.directory / "workspace-a1b2c3d4.tar.gz", "r:gz") as archive:
        files = {m.name: archive.extractfile(m) for m in archive.getmembers() if m.isfile()}
        assert {name: file.read() for name, file in files.items() if file} == FILES


@pytest.mark.parametrize("line", [BLACKBOX_ZIP, BLACKBOX_TAR])
def test_the_documented_headers(shell: Shell, line: str) -> None:
    """`Content-Length` among them, also of an archive that nobody has asked for before."""
    shell.run(line.replace("curl", "curl -D headers"))

    headers = dict(
        part.split(": ", 1)
        for part in (shell.directory / "headers").read_text().splitlines()
        if ": " in part
    )
    (name,) = set(shell.saved()) - {"headers"}
    assert headers["Content-Type"] == f"application/{'zip' if name.endswith('zip') else 'gzip'}"
    assert headers["Content-Disposition"] == f'attachment; filename="{name}"'
    assert headers["Content-Length"] == str((shell.directory / name).stat().st_size)


@pytest.mark.parametrize(
    ("line", "status", "body"),
    [
        (
            BLACKBOX_ZIP.replace("a1b2", "ffff"),
            404,
            {"error": "No sandbox available for this task"},
        ),
        (BLACKBOX_ZIP.replace("YOUR_API_KEY", "no"), 401, None),
        (DARI.replace("sess_123/", "sess_9/"), 404, None),
        (DARI.replace("$DARI_API_KEY", "no"), 401, None),
        (DARI.replace('.zip"', '.zip?path=nowhere"'), 400, None),
        (DARI.replace('.zip"', '.zip?path=notes.md"'), 400, None),
    ],
)
def test_the_documented_errors(
    shell: Shell, line: str, status: int, body: dict[str, str] | None
) -> None:
    printed = shell.run(line.replace("curl", "curl -w '%{http_code}' -o error"))

    said = orjson.loads((shell.directory / "error").read_bytes())
    assert printed == str(status).encode()
    assert said == (body or {"error": said["error"], **_twice(line, said["error"])})


def _twice(line: str, message: str) -> dict[str, str]:
    return {"detail": message} if "$DARI" in line or "dari.dev" in line else {}
