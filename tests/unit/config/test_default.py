"""The annotated default and the examples: what is shown to strangers is true."""

import os
import re
from glob import glob

import pytest

from gateway.cli.config_file import ExecutorModels
from gateway.config.dialects import Blackbox, Dialects
from gateway.config.jwt import Jwt
from gateway.config.load import default_data, default_text, from_mapping, load
from gateway.config.marked_yaml import read_text
from gateway.config.model import (
    Auth,
    Config,
    Limits,
    Placement,
    Route,
    Sessions,
    Spool,
    Store,
    config_model,
)
from gateway.config.server import Server

CONFIG = os.path.join(os.path.dirname(__file__), "../../../config")
EXAMPLES = sorted(glob(os.path.join(CONFIG, "examples", "*.yaml")))


LOCAL = config_model({"local": ExecutorModels()["local"]})(
    executors={"local": {"type": "local", "root": "./workspaces"}},
    placement={"default": {"executor": "local"}},
).executors["local"]


DEFAULT = from_mapping(default_data(), ExecutorModels(), "default")


def test_the_annotated_default_says_what_the_defaults_are():
    assert DEFAULT.server == Server()
    assert DEFAULT.auth == Auth()
    assert DEFAULT.limits == Limits()
    assert DEFAULT.spool == Spool()
    assert DEFAULT.store == Store()
    assert DEFAULT.dialects == Dialects()
    assert DEFAULT.sessions == Sessions()
    assert DEFAULT.agents == {}
    assert DEFAULT.executors["local"] == LOCAL
    assert DEFAULT.placement == Placement(default=Route(executor="local"))


def test_every_field_is_in_it_with_a_comment():
    """A field that is not shown there is a field that nobody finds."""
    lines = default_text().splitlines()
    models = [Server, Auth, Limits, Spool, Store, Blackbox, ExecutorModels()["local"]]
    for name in {name for model in models for name in model.model_fields} - {"type"}:
        at = next(n for n, line in enumerate(lines) if re.match(rf" +{name}:", line))
        assert lines[at - 1].lstrip().startswith("#"), name
    assert set(Config.model_fields) == set(default_data())


def test_the_checkout_shows_the_same_file():
    link = os.path.join(CONFIG, "gateway.yaml")

    assert os.readlink(link) == "../gateway/config/default.yaml"
    with open(link, encoding="utf-8") as file:
        assert file.read() == default_text()


def test_its_commented_lines_work_too():
    """They are there to be uncommented."""
    text = re.sub(
        r"(?m)^( +)# (?=(trusted_proxies|offload|admin|keys|jwt|dir|sandbox_prefix|  .*):)",
        r"\1",
        default_text(),
    )
    for line in (
        "trusted_proxies: []",
        "offload: null",
        "admin: null",
        "keys: []",
        "jwt: null",
        "dir: null",
        "sandbox_prefix: null",
    ):
        text = re.sub(rf"(?m)^ +{re.escape(line)}\n", "", text)

    data = read_text(text, "default.yaml", {}).data
    assert isinstance(data, dict)
    config = from_mapping(data, ExecutorModels(), "default")
    assert config.server.admin is not None
    assert config.server.offload is not None
    assert len(config.server.trusted_proxies) == 2
    assert config.auth.keys[0].org == "acme"
    assert config.auth.jwt == Jwt(
        issuer="https://login.example.com/",
        audience="workspace-gateway",
        jwks_url="https://login.example.com/.well-known/jwks.json",
    )
    assert config.spool.dir == "/var/cache/workspace-gateway/spool"


@pytest.mark.parametrize(
    "lines",
    [
        [" +", "socket:"],
        [" +", "public_url:"],
        [" +", "url: sqlite:///var"],
        [" +", "url: sqlite://$"],
        [" +", "url: postgresql:", "password:"],
        [" +", "edge:", "rules:"],
        ["", "agents:|  "],
    ],
    ids=lambda lines: lines[1],
)
def test_so_do_those_to_choose_from(tmp_path, lines):
    """Each instead of the line that is in force."""
    indent, *starts = lines
    text = default_text().replace("/run/secrets/", f"{tmp_path}/")
    for name in ("sidecar", "database"):
        (tmp_path / name).write_text("secret")
    if "socket:" in starts:
        text = re.sub(r"(?m)^  (host|port): .*\n", "", text)
    for start in starts:
        key = start.partition(":")[0]
        text = re.sub(rf"(?m)^{indent}{key}: (null|\[\]|\{{\}})\n", "", text)
        text = re.sub(rf"(?m)^({indent})# (?={start})", r"\1", text)

    data = read_text(text, "default.yaml", {}).data
    assert isinstance(data, dict)

    assert from_mapping(data, ExecutorModels(), "default") != DEFAULT


@pytest.mark.parametrize("file", EXAMPLES, ids=os.path.basename)
def test_an_example_loads(file, monkeypatch):
    with open(file, encoding="utf-8") as stream:
        text = stream.read()
    for number, name in enumerate(re.findall(r"\$\{([A-Z0-9_]+_SHA256)", text)):
        monkeypatch.setenv(name, f"{number:064x}")
    for name in re.findall(r"\{env: ([A-Z0-9_]+)\}", text):
        monkeypatch.setenv(name, "a-secret")

    config = load(file, ExecutorModels())

    assert config.auth.keys


def test_there_are_examples():
    assert len(EXAMPLES) >= 4
