"""The first start without a config: a key beside the root, shown once."""

import os
import stat

import pytest

from gateway.auth.api_key import digest
from gateway.cli.first_start import config_for_root, keys_beside, keys_file
from gateway.config.errors import ConfigError
from gateway.config.model import Limits
from gateway.domain.model import Scope


def test_the_first_start_makes_a_key_and_later_ones_find_it(tmp_path):
    root = str(tmp_path / "workspaces")

    first, key = keys_beside(root)
    later, nothing = keys_beside(root)

    assert key is not None
    assert nothing is None
    assert first == later
    assert first[0]["sha256"] == digest(key).hex()


def test_the_file_is_its_owners_and_does_not_hold_the_key(tmp_path):
    root = str(tmp_path / "workspaces")

    _, key = keys_beside(root)

    file = tmp_path / "workspaces.keys.yaml"
    assert key is not None
    assert key not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("root", ["w", "w/", "./w", "../{here}/w"])
def test_the_file_is_beside_the_root_however_it_is_written(tmp_path, monkeypatch, root):
    monkeypatch.chdir(tmp_path)

    keys_beside(root.format(here=tmp_path.name))

    assert os.listdir(tmp_path) == ["w.keys.yaml"]


def test_a_link_in_its_place_is_not_written_through(tmp_path):
    target = tmp_path / "elsewhere"
    (tmp_path / "w.keys.yaml").symlink_to(target)

    with pytest.raises(ConfigError, match="cannot be read"):
        keys_beside(str(tmp_path / "w"))

    assert not target.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ":1: must be a list of keys"),
        ("id: x", ":1: must be a list of keys"),
        ("- {id: a, id: b}", ":1: 0.id: is there twice, first on line 1"),
        ("- [", ":1: not YAML"),
    ],
)
def test_a_file_that_is_broken_is_not_replaced(tmp_path, text, said):
    """Somebody's keys are in it."""
    file = tmp_path / "w.keys.yaml"
    file.write_text(text)

    with pytest.raises(ConfigError) as caught:
        keys_beside(str(tmp_path / "w"))

    assert str(caught.value).startswith(f"{file}{said}")
    assert file.read_text() == text


def test_a_place_that_cannot_be_written(tmp_path):
    root = str(tmp_path / "nowhere" / "w")

    with pytest.raises(ConfigError) as caught:
        keys_beside(root)

    assert str(caught.value) == f"{keys_file(root)}: cannot be written: No such file or directory"


def test_the_config_is_the_default_with_root_and_keys(tmp_path):
    root = str(tmp_path / "w ${x}")
    entries, _ = keys_beside(root)

    config = config_for_root(root, keys_beside(root)[0], {"port": 0, "workers": 2})

    assert entries == keys_beside(root)[0]
    assert config.executors["local"].model_dump()["root"] == root
    assert config.limits == Limits()
    assert (config.server.host, config.server.port, config.server.workers) == ("127.0.0.1", 0, 2)
    (key,) = config.auth.keys
    assert (key.id, key.org) == ("first", "default")
    assert set(key.scopes) == {Scope.FILES_READ, Scope.ARCHIVES_READ, Scope.SESSIONS_READ}


def test_what_is_wrong_with_stored_keys_is_said(tmp_path):
    root = str(tmp_path / "w")

    with pytest.raises(ConfigError) as caught:
        config_for_root(root, [{"id": "x"}], {"port": -1})

    assert len(caught.value.problems) == 4
