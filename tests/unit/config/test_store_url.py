"""The address of the store: what is one, and that its password is never shown."""

import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.cli.config_file import ExecutorModels
from gateway.config.errors import ConfigError
from gateway.config.load import from_mapping
from gateway.config.model import Config
from gateway.config.store_url import shown, sqlite_file

CANARY = "hunter2-canary"


def config(store: dict[str, Any], **server: Any) -> Config:
    data: dict[str, Any] = {
        "server": server,
        "store": store,
        "executors": {"local": {"type": "local", "root": "/tmp"}},
    }
    return from_mapping(data, ExecutorModels(), "test")


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite:////var/lib/gateway.db", "/var/lib/gateway.db"),
        ("sqlite:///var/gateway.db", "/start/var/gateway.db"),
        ("sqlite:////a%20b/%3F%23%25.db", "/a b/?#%.db"),
        ("sqlite://", None),
    ],
)
def test_an_address_of_sqlite_names_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, file: str | None
) -> None:
    monkeypatch.chdir(tmp_path)

    found = sqlite_file(config({"url": url}).store.address)

    assert found == (file and file.replace("/start", str(tmp_path)))


def test_without_an_address_it_is_in_the_users_state(monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> str | None:
        return sqlite_file(config({}).store.address)

    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert found() == "/state/workspace-gateway/gateway.db"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/me")
    assert found() == "/home/me/.local/state/workspace-gateway/gateway.db"


@pytest.mark.parametrize(
    ("store", "message"),
    [
        ({"url": f"mysql://u:{CANARY}@h/d"}, "must begin with sqlite:// or postgresql://"),
        ({"url": "gateway.db"}, "must begin with sqlite:// or postgresql://"),
        ({"url": "sqlite://var/gateway.db"}, "needs three slashes before a relative path"),
        ({"url": "sqlite:var/gateway.db"}, "must begin with sqlite://"),
        ({"url": "sqlite:///"}, "must name a file"),
        ({"url": "sqlite:///var/"}, "must name a file"),
        ({"url": "sqlite:///a%00b"}, "must name a file"),
        ({"url": "sqlite:///a.db?mode=ro"}, "takes no options"),
        ({"url": f"postgresql://u:{CANARY}@h"}, "must name a database"),
        ({"url": f"postgresql://u:{CANARY}@h:port/d"}, "is no address"),
        ({"url": f"postgresql://u:{CANARY}@[h/d"}, "is no address"),
        ({"url": f"postgresql://u:12/{CANARY}@h/d"}, "must have /, ?, # and @ of its password"),
        ({"url": f"postgresql://u:12#{CANARY}@h/d"}, "must have /, ?, # and @ of its password"),
        ({"url": "sqlite:///a.db", "password": {"env": "CANARY"}}, "is for store.url: postgres"),
    ],
)
def test_another_address_is_refused_in_words_that_do_not_repeat_it(
    monkeypatch: pytest.MonkeyPatch, store: dict[str, Any], message: str
) -> None:
    monkeypatch.setenv("CANARY", CANARY)

    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        config(store)

    assert CANARY not in str(caught.value)


def test_a_store_in_memory_is_not_for_several_workers() -> None:
    with pytest.raises(ConfigError, match=r"store\.url: is in the memory of one worker"):
        config({"url": "sqlite://"}, workers=2)


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        (
            f"postgresql://u:{CANARY}@h:5432/d?sslmode=require",
            "postgresql://u:…@h:5432/d?sslmode=require",
        ),
        (f"postgresql://u:{CANARY}@a@h/d", "postgresql://u:…@h/d"),
        (f"postgresql:///d?host=/run&password={CANARY}", "postgresql:///d?host=/run&password=…"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("sqlite:////var/gateway.db", "sqlite:////var/gateway.db"),
        ("sqlite:///var/gateway.db", "sqlite:///var/gateway.db"),
        ("sqlite://", "sqlite://"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, safe: str) -> None:
    assert shown(url) == safe
    assert CANARY not in repr(config({"url": url}))
    assert CANARY not in config({"url": url}).model_dump_json()


def test_config_show_does_not_show_it(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(
        f"store: {{url: 'postgresql://u:{CANARY}@h/d'}}\n"
        "executors: {local: {type: local, root: /tmp}}\n"
    )

    result = CliRunner().invoke(main, ["config", "show", "--config", str(file)])

    assert result.exit_code == 0
    assert "postgresql://u:…@h/d" in result.output
    assert CANARY not in result.output
