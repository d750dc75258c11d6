"""`keys` on the store of a config, and what a gateway makes of such keys."""

import asyncio
import json
import time
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.cli.exits import Exit
from tests import wire
from tests.gateways import settings, threaded

GRANT = ["--id", "ci", "--org", "acme", "--scope", "files:read"]


@pytest.fixture
def config(tmp_path: Path) -> str:
    root = tmp_path / "workspaces"
    (root / "s1").mkdir(parents=True)
    (root / "s1" / "a.txt").write_text("a")
    data = {
        "store": {"url": f"sqlite:///{tmp_path}/state/gateway.db"},
        "executors": {"local": {"type": "local", "root": str(root)}},
        "placement": {"default": {"executor": "local"}},
    }
    file = tmp_path / "gateway.yaml"
    file.write_text(yaml.safe_dump(data))
    return str(file)


def keys(config: str, command: str, *arguments: str, given: str | None = None) -> Result:
    return CliRunner().invoke(main, ["keys", command, "--config", config, *arguments], input=given)


def listed(config: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in keys(config, "list", "--json").stdout.splitlines()]


def test_a_key_is_shown_once_and_kept_by_its_digest(config: str, tmp_path: Path) -> None:
    key = keys(config, "create", *GRANT).stdout.strip()

    assert key.startswith("wsg_ci_")
    assert [(found["id"], found["org"], found["scopes"]) for found in listed(config)] == [
        ("ci", "acme", ["files:read"])
    ]
    kept = b"".join(path.read_bytes() for path in (tmp_path / "state").iterdir())
    assert key.encode() not in kept
    assert key.split("_")[2].encode() not in kept


def test_an_id_is_taken_once(config: str) -> None:
    keys(config, "create", *GRANT)
    again = keys(config, "create", *GRANT)

    assert again.exit_code == Exit.FAILED
    assert "taken" in again.stderr
    assert len(listed(config)) == 1


def test_a_key_that_is_not_there_cannot_be_revoked_or_rotated(config: str) -> None:
    for command in ("revoke", "rotate"):
        result = keys(config, command, "nobody")

        assert result.exit_code == Exit.NOT_FOUND
        assert "key not found" in result.stderr


def test_the_life_of_a_key_as_gateways_see_it(tmp_path: Path) -> None:
    """Each change counts within a second, in a gateway that runs all the while."""
    (tmp_path / "s1").mkdir()
    (tmp_path / "s1" / "a.txt").write_text("a")
    store = {"store": {"url": f"sqlite:///{tmp_path}/state/gateway.db"}}
    config = str(tmp_path / "gateway.yaml")
    Path(config).write_text(yaml.safe_dump(settings(tmp_path, store)))
    with threaded(tmp_path, store) as gateway:

        def status(key: str) -> int:
            target = "/api/v1/sessions/s1/files/a.txt"
            return asyncio.run(wire.ask(gateway.port, target, f"X-API-Key: {key}")).status

        def becomes(key: str, expected: int) -> bool:
            until = time.monotonic() + 1.5
            while (found := status(key)) != expected and time.monotonic() < until:
                time.sleep(0.1)
            return found == expected

        first = keys(config, "create", *GRANT).stdout.strip()
        assert becomes(first, 200)
        second = keys(config, "rotate", "ci").stdout.strip()
        assert becomes(second, 200)
        assert becomes(first, 401)
        keys(config, "revoke", "ci")
        assert becomes(second, 401)
        keys(config, "import", *GRANT[2:], "--id", "old", given="sk_foreign\n")
        assert becomes("sk_foreign", 200)
