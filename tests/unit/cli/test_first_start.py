"""The first start without a config: a key beside the root, shown once."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from gateway.auth.api_key import digest
from gateway.cli.first_start import config_beside, config_for_root, keys_file
from gateway.config.errors import ConfigError
from gateway.config.model import Limits
from gateway.domain.model import Scope


def test_the_first_start_makes_a_key_and_later_ones_find_it(tmp_path):
    root = str(tmp_path / "workspaces")

    first, key = config_beside(root, {})
    later, nothing = config_beside(root, {})

    assert key is not None
    assert nothing is None
    assert first == later
    assert first.auth.keys[0].sha256 == digest(key).hex()


def test_the_file_is_its_owners_and_does_not_hold_the_key(tmp_path):
    root = str(tmp_path / "workspaces")

    _, key = config_beside(root, {})

    file = tmp_path / "workspaces.keys.yaml"
    assert key is not None
    assert key not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.stat().st_nlink == 1


@pytest.mark.parametrize("options", [{"host": ""}, {"port": -1}, {"host": "\udcff"}])
def test_no_key_is_made_for_a_config_that_cannot_be_used(tmp_path, options):
    """It would never be shown, and the next start would find it made."""
    with pytest.raises(ConfigError, match=r"^--"):
        config_beside(str(tmp_path / "w"), options)

    assert os.listdir(tmp_path) == []


def test_nor_for_a_root_that_no_config_can_hold(tmp_path):
    with pytest.raises(ConfigError, match=r"executors\.local\.root: is not text that UTF-8"):
        config_beside(str(tmp_path / "w\udcff"), {})

    assert os.listdir(tmp_path) == []


def test_of_gateways_that_start_at_once_one_makes_the_key_and_all_know_it(tmp_path):
    """None reads a file that another has only begun."""
    root, together = str(tmp_path / "w"), Barrier(8)

    def start(_: int):
        together.wait()
        return config_beside(root, {})

    with ThreadPoolExecutor(8) as pool:
        started = list(pool.map(start, range(8)))

    (key,) = [key for _, key in started if key is not None]
    assert {config.auth.keys[0].sha256 for config, _ in started} == {digest(key).hex()}
    assert os.listdir(tmp_path) == ["w.keys.yaml"]


@pytest.mark.parametrize("root", ["w", "w/", "./w", "../{here}/w"])
def test_the_file_is_beside_the_root_however_it_is_written(tmp_path, monkeypatch, root):
    monkeypatch.chdir(tmp_path)

    config_beside(root.format(here=tmp_path.name), {})

    assert os.listdir(tmp_path) == ["w.keys.yaml"]


def test_a_link_in_its_place_is_not_written_through(tmp_path):
    target = tmp_path / "elsewhere"
    (tmp_path / "w.keys.yaml").symlink_to(target)

    with pytest.raises(ConfigError, match="cannot be read"):
        config_beside(str(tmp_path / "w"), {})

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
        config_beside(str(tmp_path / "w"), {})

    assert str(caught.value).startswith(f"{file}{said}")
    assert file.read_text() == text


def test_a_place_that_cannot_be_written(tmp_path):
    root = str(tmp_path / "nowhere" / "w")

    with pytest.raises(ConfigError) as caught:
        config_beside(root, {})

    assert str(caught.value) == f"{keys_file(root)}: cannot be written: No such file or directory"


def test_the_config_is_the_default_with_root_and_keys(tmp_path):
    root = str(tmp_path / "w ${x}")

    config, _ = config_beside(root, {"port": 0, "workers": 2})

    assert config.executors["local"].model_dump()["root"] == root
    assert config.limits == Limits()
    assert (config.server.host, config.server.port, config.server.workers) == ("127.0.0.1", 0, 2)
    (key,) = config.auth.keys
    assert (key.id, key.org) == ("first", "default")
    assert set(key.scopes) == {Scope.FILES_READ, Scope.ARCHIVES_READ, Scope.SESSIONS_READ}


def test_what_is_wrong_with_stored_keys_is_said(tmp_path):
    root = str(tmp_path / "w")

    with pytest.raises(ConfigError) as caught:
        config_for_root(root, [{"id": "x"}], {"server": {"port": -1}})

    assert len(caught.value.problems) == 4
