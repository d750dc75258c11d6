"""`check`: every problem, and what the executors and the store say."""

import asyncio
import os
from pathlib import Path

import pytest

from gateway.cli.exits import Exit
from gateway.store.store import opened
from tests import stores
from tests.unit.cli.command import command


def test_a_good_config(tmp_path):
    (tmp_path / "c.yaml").write_text("executors: {local: {type: local, root: .}}")

    result = command("check", "--config", "c.yaml", cwd=str(tmp_path))

    assert (result.returncode, result.stdout, result.stderr) == (Exit.OK, "c.yaml: ok\n", "")


def test_without_a_file_it_is_the_built_in_default(tmp_path):
    result = command("check", cwd=str(tmp_path))

    assert (result.returncode, result.stdout) == (Exit.OK, "built-in default: ok\n")


def test_every_problem_is_printed(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "server: {port: abc}\nexecutors:\n  a: {type: locl}\n  b: {type: local, rot: x}\n"
    )

    result = command("check", "--config", "c.yaml", cwd=str(tmp_path))

    assert result.returncode == Exit.USAGE
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "c.yaml:1: placement: is missing: with several executors, default.executor must name one "
        "of them",
        "c.yaml:1: server.port: must be a whole number, not 'abc'",
        "c.yaml:3: executors.a.type: no executor of type 'locl' (did you mean 'local'?)",
        "c.yaml:4: executors.b.root: is missing",
        "c.yaml:4: executors.b.rot: unknown key (did you mean 'root'?)",
    ]


def test_a_file_that_is_not_there(tmp_path):
    result = command("check", "--config", "c.yaml", cwd=str(tmp_path))

    assert result.returncode == Exit.USAGE
    assert result.stderr == "c.yaml: cannot be read: No such file or directory\n"


def test_a_probe_of_a_root_that_is_there(tmp_path):
    (tmp_path / "c.yaml").write_text("executors: {local: {type: local, root: .}}")

    result = command("check", "--config", "c.yaml", "--probe", cwd=str(tmp_path))

    assert result.returncode == Exit.OK
    assert result.stdout.splitlines()[1].startswith("local: ready (")


def test_a_probe_of_a_root_that_is_missing(tmp_path):
    (tmp_path / "c.yaml").write_text("executors: {local: {type: local, root: ./nowhere}}")

    result = command("check", "--config", "c.yaml", "--probe", cwd=str(tmp_path))

    assert result.returncode == Exit.UNAVAILABLE
    assert result.stdout.splitlines()[1].startswith("local: not ready (")
    assert result.stderr == ""


def probed(tmp_path: Path, url: str) -> tuple[int, str]:
    """The exit code, and what is said of the store."""
    (tmp_path / "c.yaml").write_text(
        f"executors: {{local: {{type: local, root: .}}}}\nstore: {{url: {url!r}}}"
    )
    result = command("check", "--config", "c.yaml", "--probe", cwd=str(tmp_path))
    assert "Traceback" not in result.stderr
    assert len(result.stdout.splitlines()) == 3  # and no line of a log
    return result.returncode, result.stdout.splitlines()[-1]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_probe_of_the_store_says_how_far_its_schema_is(tmp_path, kind):
    """A gateway that knows less than the store is not to be started."""
    url = stores.address_of(kind, tmp_path)
    newer = "PRAGMA user_version = 999"
    if kind == "postgres":
        newer = "INSERT INTO schema_version VALUES (999)"

    async def make() -> None:
        async with opened(url):
            pass

    before = probed(tmp_path, url)
    asyncio.run(make())
    after = probed(tmp_path, url)
    stores.execute(url, newer)
    code, told = probed(tmp_path, url)

    assert before[0] == Exit.OK
    assert before[1].startswith("store: ready (schema: ")
    assert before[1].endswith(" steps behind, which the next start takes)")
    assert after == (Exit.OK, "store: ready (schema: up to date)")
    assert code == Exit.UNAVAILABLE
    assert told.startswith("store: not ready (error: the store has version 999 of the schema and")


def test_a_probe_leaves_a_store_that_is_not_there_alone(tmp_path):
    code, _ = probed(tmp_path, f"sqlite:///{tmp_path}/var/gateway.db")

    assert code == Exit.OK
    assert not os.path.exists(tmp_path / "var")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("postgresql://u:p@127.0.0.1:1/d", "Connect call failed ('127.0.0.1', 1)"),
        ("sqlite:///c.yaml", "file is not a database"),
    ],
)
def test_a_probe_says_why_a_store_cannot_be_used(tmp_path, url, why):
    code, told = probed(tmp_path, url)

    assert code == Exit.UNAVAILABLE
    assert told.startswith("store: not ready (error: ")
    assert why in told
