"""`config schema`, `show` and `init`."""

import json

import yaml
from click.testing import CliRunner

from gateway.cli import main
from gateway.cli.config_file import read_config
from gateway.config.load import default_text

DIGEST = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"


def output(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["config", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_init_prints_a_config_that_works(tmp_path):
    text = output("init")

    (tmp_path / "c.yaml").write_text(text)
    assert text == default_text()
    assert read_config(str(tmp_path / "c.yaml")) == read_config(None)


def test_show_fills_in_the_defaults_and_can_be_read_back(tmp_path, monkeypatch):
    monkeypatch.setenv("ROOT", "/x")
    file = tmp_path / "c.yaml"
    file.write_text(
        "server: {header_timeout: 0.5, trusted_proxies: [10.0.0.0/8], admin: {port: 9}}\n"
        "limits: {file: 1048576}\n"
        "executors:\n  a:\n    type: local\n    root: ${ROOT}/$${y}\n"
    )

    text = output("show", "--config", str(file))

    shown = yaml.safe_load(text)
    assert shown["server"]["header_timeout"] == "0.5s"
    assert shown["limits"]["file"] == "1MiB"
    assert shown["placement"]["default"] == {"executor": "a", "fallback": []}
    again = tmp_path / "again.yaml"
    again.write_text(text)
    assert read_config(str(again)) == read_config(str(file))


def test_a_config_with_a_socket_is_shown_without_the_port_that_is_not_in_force(tmp_path):
    file, again = tmp_path / "c.yaml", tmp_path / "again.yaml"
    file.write_text("server: {socket: /run/x.sock}\nexecutors: {a: {type: local, root: /x}}\n")

    again.write_text(output("show", "--config", str(file)))

    assert read_config(str(again)) == read_config(str(file))


def test_show_redacts_digests(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(
        "executors: {a: {type: local, root: /x}}\n"
        f"auth: {{keys: [{{id: ci, org: acme, sha256: {DIGEST}, scopes: [files:read],"
        " expires: 2027-01-31T00:00:00Z}]}\n"
    )

    (key,) = yaml.safe_load(output("show", "--config", str(file)))["auth"]["keys"]

    assert key["sha256"] == "2c26b46b…"
    assert key["expires"] == "2027-01-31T00:00:00Z"


def test_the_schema_knows_the_executors():
    schema = json.loads(output("schema"))

    assert schema["required"] == ["executors"]
    local = schema["$defs"]["LocalConfig"]["properties"]
    assert local["type"]["const"] == "local"
    assert "root" in local


def test_there_is_a_schema_of_profiles_too():
    schema = json.loads(output("schema", "--profile"))

    assert schema["required"] == ["download"]
    assert {"list", "errors", "capabilities"} <= schema["properties"].keys()
    assert "unclear" in schema["$defs"]["Means"]["enum"]


def test_the_schema_takes_sizes_and_times_as_they_may_be_written():
    definitions = json.loads(output("schema"))["$defs"]

    assert definitions["Limits"]["properties"]["file"]["type"] == ["string", "integer"]
    assert definitions["Server"]["properties"]["drain"]["type"] == ["string", "number"]
    assert definitions["Server"]["additionalProperties"] is False
