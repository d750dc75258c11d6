"""`sessions`: what is registered in the store of a config."""

import json
import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.cli.exits import Exit
from tests.gateways import settings
from tests.unit.cli.command import command


class Sessions:
    """Runs `workspace-gateway sessions` with a config."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __call__(self, command: str, *arguments: str) -> Result:
        line = ["sessions", command, "--config", str(self._file), *arguments]
        return CliRunner().invoke(main, line)


@pytest.fixture
def sessions(tmp_path: Path, root: Path) -> Sessions:
    return configured(tmp_path, root)


def configured(tmp_path: Path, root: Path, **sections: object) -> Sessions:
    file = tmp_path / "gateway.yaml"
    file.write_text(yaml.safe_dump({**settings(root), **sections}))
    return Sessions(file)


def test_a_session_from_its_making_to_its_end(sessions: Sessions) -> None:
    made = sessions("create", "--org", "acme", "--external-id", "x1", "--metadata", "kind=a=b")
    session_id = made.stdout.strip()

    shown = sessions("show", session_id)
    by_external_id = sessions("show", "--org", "acme", "x1")
    deleted = sessions("delete", session_id)
    gone = sessions("show", session_id)
    again = sessions("delete", session_id)

    assert re.fullmatch("sess_[A-Za-z0-9]{22}", session_id)
    assert made.exit_code == shown.exit_code == by_external_id.exit_code == Exit.OK
    assert json.loads(shown.stdout) == json.loads(by_external_id.stdout)
    assert json.loads(shown.stdout)["metadata"] == {"kind": "a=b"}
    assert json.loads(shown.stdout)["status"] == "waiting"
    assert deleted.exit_code == Exit.OK
    assert gone.exit_code == again.exit_code == Exit.NOT_FOUND
    assert "session not found" in gone.stderr


def test_a_list_is_of_one_organisation(sessions: Sessions) -> None:
    for org, name in (("acme", "one"), ("acme", "two"), ("globex", "three")):
        sessions(
            "create", "--org", org, "--id", name, "--name", "a\x1bb", "--metadata", f"n={name}"
        )

    listed = sessions("list", "--org", "acme")
    filtered = sessions("list", "--org", "acme", "--metadata", "n=one", "--json")

    lines = listed.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["two", "one"]
    assert "\x1b" not in listed.stdout
    assert json.loads(filtered.stdout)["id"] == "one"


def test_what_is_taken_is_refused(sessions: Sessions) -> None:
    sessions("create", "--org", "acme", "--id", "one")

    again = sessions("create", "--org", "globex", "--id", "one")

    assert again.exit_code == Exit.FAILED
    assert "is taken" in again.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("create",),
        ("create", "--org", "acme", "--id", "../x"),
        ("create", "--org", "acme", "--external-id", "a b"),
        ("create", "--org", "acme", "--executor", "nobody"),
        ("create", "--org", "acme", "--metadata", "kind"),
        ("create", "--org", "acme", "--metadata", "=x"),
        ("create", "--org", "acme", "--metadata", "a=1", "--metadata", "a=2"),
        ("list",),
        ("delete", "../x"),
    ],
)
def test_a_wrong_argument_is_a_wrong_usage(sessions: Sessions, arguments: tuple[str, ...]) -> None:
    assert sessions(*arguments).exit_code == Exit.USAGE


def test_another_organisations_session_is_not_shown(sessions: Sessions) -> None:
    sessions("create", "--org", "globex", "--id", "theirs")

    assert sessions("show", "--org", "acme", "theirs").exit_code == Exit.NOT_FOUND


def test_a_store_in_memory_is_out_of_reach(tmp_path: Path, root: Path) -> None:
    result = configured(tmp_path, root, store={"url": "sqlite://"})("list", "--org", "acme")

    assert result.exit_code == Exit.USAGE
    assert "store.url" in result.stderr


def test_a_store_that_is_away_is_unavailable(tmp_path: Path, root: Path) -> None:
    url = "postgresql://nobody@127.0.0.1:9/none"

    result = configured(tmp_path, root, store={"url": url})("list", "--org", "acme")

    assert result.exit_code == Exit.UNAVAILABLE


@pytest.mark.parametrize(
    "arguments",
    [["sessions", "list", "--org", "acme"], ["keys", "list", "--json"]],
    ids=" ".join,
)
def test_why_a_store_is_away_is_logged_beside_the_output(
    tmp_path: Path, root: Path, arguments: list[str]
) -> None:
    """A program that reads the output finds nothing else there."""
    configured(tmp_path, root, store={"url": "postgresql://nobody@127.0.0.1:9/none"})

    result = command(*arguments, "--config", "gateway.yaml", cwd=str(tmp_path))

    assert (result.returncode, result.stdout) == (Exit.UNAVAILABLE, "")
    assert json.loads(result.stderr.splitlines()[0])["event"] == "store_unavailable"
