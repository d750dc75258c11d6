"""The README's commands work as they stand: its `sh` blocks are run, in order, against the demo.

`text` and `console` blocks are not run. What is mapped: `localhost:8080` to the port of the test,
8082 to 8085 to ports that are free, HOME and the current directory to one that has nothing but the
checkout's `config` and `deploy`, and KEY to the demo's key.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import needs, postgres
from tests.e2e.demos import Demo, demo
from tests.e2e.operating import CHECKOUT
from tests.ports import free_port

KEY = "sk_test_readme"
_SEVERAL = "## Several gateways\n"
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def runnable(markdown: str) -> str:
    """The script that the `sh` blocks make together, on ports of the test's own."""
    ports = {port: str(free_port()) for port in ("8082", "8083", "8084", "8085")}
    return re.sub("808[2-5]", lambda port: ports[port[0]], "".join(_BLOCK.findall(markdown)))


def readme() -> tuple[str, str]:
    """All but the section that needs PostgreSQL and nginx, and that section."""
    text = (CHECKOUT / "README.md").read_text()
    before, title, rest = text.partition(_SEVERAL)
    section, after, others = rest.partition("\n## ")
    return before + after + others, title + section


@dataclass
class Reader:
    """Somebody who pastes commands into a terminal."""

    home: Path

    def paste(self, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the lines in one session, which ends with the first that fails and names it."""
        shell = [needs.program("bash"), "-e", "-u", "-o", "pipefail", "-v", "-s"]
        # In files: a pipe would be held open by what the lines have left in the background.
        with (
            tempfile.TemporaryFile("w+") as output,
            tempfile.TemporaryFile("w+") as errors,
            subprocess.Popen(
                shell,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=errors,
                text=True,
                cwd=self.home,
                process_group=0,
                env={
                    "HOME": str(self.home),
                    "PATH": f"{self.home}/.bin:{os.environ['PATH']}",
                    "LC_ALL": "C.UTF-8",
                    "KEY": KEY,
                    "DARI_API_KEY": KEY,
                    **variables,
                },
            ) as session,
        ):
            try:
                session.communicate(script, timeout=120)
            finally:
                with suppress(ProcessLookupError):  # what the lines have left in the background
                    os.killpg(session.pid, signal.SIGKILL)
            output.seek(0)
            errors.seek(0)
            said = output.read(), errors.read()
        return subprocess.CompletedProcess(shell, session.returncode, *said)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One demo for all of these tests."""
    with demo(tmp_path_factory.mktemp("readme"), WORKSPACE_GATEWAY_KEY=KEY) as running:
        yield running


@pytest.fixture
def reader(tmp_path: Path, running: Demo) -> Reader:
    """A reader of the README beside a demo that runs."""
    needs.program("curl")
    home = tmp_path / "home"
    (home / ".bin").mkdir(parents=True)
    program = home / ".bin" / "workspace-gateway"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={CHECKOUT} exec {sys.executable} -m gateway "$@"\n')
    program.chmod(0o755)
    for name in ("config", "deploy"):
        (home / name).symlink_to(CHECKOUT / name)
    (home / ".curlrc").write_text(
        f'connect-to = "localhost:8080:127.0.0.1:{running.port}"\nfail\nsilent\nshow-error\n'
    )
    return Reader(home)


def test_the_commands_of_the_readme_work(reader: Reader) -> None:
    script = runnable(readme()[0])
    assert script

    result = reader.paste(script)

    assert result.returncode == 0, result.stderr
    assert (reader.home / "sidecar.log").read_text().count('"status":206') >= 2
    assert (reader.home / "shared.png").read_bytes() == (reader.home / "chart.png").read_bytes()


def test_the_commands_for_several_gateways_work(reader: Reader) -> None:
    needs.program("nginx")
    script = runnable(readme()[1])
    assert "kill -9" in script

    result = reader.paste(script, DATABASE_URL=postgres.server().new_database())

    assert result.returncode == 0, result.stderr
    with zipfile.ZipFile(reader.home / "workspace.zip") as archive:
        assert archive.namelist() == ["numbers.txt"]


SAMPLE = """
```text
false
```

List:

```sh
curl -H "X-API-Key: $KEY" "http://localhost:8080/api/v1/sessions/demo/files" > listing.json
FROM=listing.json
```

```console
$ false
```

```sh
grep -q '"session_id":"demo"' "$FROM"
curl -I -H "X-API-Key: $KEY" http://localhost:8080/livez
```
"""


def test_blocks_are_run_in_one_session(reader: Reader) -> None:
    """What one block leaves, a file or a variable, the next one finds; others are not run."""
    result = reader.paste(runnable(SAMPLE))

    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("HTTP/1.1 200 OK")
    assert (reader.home / "listing.json").exists()


@pytest.mark.parametrize(
    "line",
    [
        "false | cat",
        'echo "$UNKNOWN"',
        "no-such-program",
        "curl http://localhost:8080/api/v1/sessions/demo/files",
        'curl -H "X-API-Key: $KEY" http://localhost:8080/api/v1/sessions/demo/files/none',
    ],
)
def test_a_command_that_fails_is_found(reader: Reader, line: str) -> None:
    """Or the test of the README could not fail."""
    result = reader.paste(runnable(f"```sh\n{line}\ntouch reached\n```\n"))

    assert result.returncode != 0
    assert line in result.stderr
    assert not (reader.home / "reached").exists()
