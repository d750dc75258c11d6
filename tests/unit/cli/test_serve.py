"""`serve`: what its options do, when a key is shown, what SIGHUP means."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from gateway.cli.config_file import ExecutorModels, with_options
from gateway.cli.exits import Exit
from gateway.config.errors import ConfigError
from gateway.config.load import load
from tests.unit.cli.command import command, inherited

CONFIG = "executors: {local: {type: local, root: .}}\nserver: {grace: 0s, port: 0}\n"


@contextmanager
def serving(
    cwd: str, *arguments: str, before: Sequence[str] = (), **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """A `serve` that has said once that it serves; it is killed at the end."""
    with subprocess.Popen(
        [*before, sys.executable, "-m", "gateway", "serve", *arguments],
        cwd=cwd,
        env=inherited() | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            until(process, "serving")
            yield process
        finally:
            process.kill()


def until(process: subprocess.Popen[str], event: str) -> dict[str, object]:
    """Read the log up to a line of *event*."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("{"):
            logged: dict[str, object] = json.loads(line)
            if logged["event"] == event:
                return logged
    raise AssertionError(f"no {event}")


@pytest.mark.parametrize("arguments", [("--root", "w"), ("--config", "c.yaml")])
def test_an_option_is_judged_like_the_config(tmp_path, arguments):
    (tmp_path / "c.yaml").write_text(CONFIG)

    result = command("serve", *arguments, "--host", "", cwd=str(tmp_path))

    assert result.returncode == Exit.USAGE
    assert result.stdout == ""
    assert result.stderr == "--host: must not be empty\n"
    assert os.listdir(tmp_path) == ["c.yaml"]


def test_options_replace_what_the_file_says(tmp_path):
    (tmp_path / "c.yaml").write_text(
        f"{CONFIG[:-2]}, trusted_proxies: [10.0.0.0/8], admin: {{}}, min_rate: 0}}\n"
    )
    config = load(str(tmp_path / "c.yaml"), ExecutorModels())

    changed = with_options(config, {"host": "::1", "workers": 3})

    assert changed.server == config.server.model_copy(update={"host": "::1", "workers": 3})
    assert changed.executors == config.executors
    assert with_options(config, {}) == config


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"port": 65536}, "--port: must be at most 65535, not 65536"),
        ({"port": "80"}, "--port: must be a whole number, not '80'"),
        ({"host": "", "workers": 0}, "--host: must not be empty\n--workers: must be at least 1"),
    ],
)
def test_what_is_wrong_is_said_of_the_option(tmp_path, options, said):
    (tmp_path / "c.yaml").write_text(CONFIG)
    config = load(str(tmp_path / "c.yaml"), ExecutorModels())

    with pytest.raises(ConfigError) as caught:
        with_options(config, options)

    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("options", [{"host": "::1"}, {"port": 80}, {"port": 0, "workers": 2}])
def test_a_port_is_refused_where_the_config_names_a_socket(tmp_path, options):
    (tmp_path / "c.yaml").write_text(CONFIG.replace("port: 0", "socket: /run/x.sock"))
    config = load(str(tmp_path / "c.yaml"), ExecutorModels())

    with pytest.raises(ConfigError) as caught:
        with_options(config, options)

    said = f"--{next(iter(options))}: server.socket of the config listens instead"
    assert str(caught.value) == f"{said}; remove one of the two"
    assert with_options(config, {"workers": 2}).server.socket == "/run/x.sock"


def test_the_first_key_is_shown_and_the_second_start_makes_none(tmp_path):
    """Even if the first start fails for a reason that has nothing to do with the config."""
    failed = command("serve", "--root", "w", "--host", "192.0.2.1", cwd=str(tmp_path))
    again = command("serve", "--root", "w", "--host", "192.0.2.1", cwd=str(tmp_path))

    assert (failed.returncode, again.returncode) == (Exit.FAILED, Exit.FAILED)
    assert failed.stdout.startswith("wsg_first_")
    assert "made a key, shown only now; its digest is in " in failed.stderr
    assert again.stdout == ""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_without_a_config_a_closed_terminal_ends_it(tmp_path, workers):
    (tmp_path / "w").mkdir()
    arguments = ("--root", "w", "--port", "0", "--workers", workers)

    with serving(str(tmp_path), *arguments) as process:
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=20)

    assert process.returncode == Exit.OK


def test_unless_nohup_is_to_keep_it(tmp_path):
    (tmp_path / "w").mkdir()

    with serving(str(tmp_path), "--root", "w", "--port", "0", before=["nohup"]) as process:
        process.send_signal(signal.SIGHUP)
        until(process, "reloaded")

        assert process.poll() is None


def test_with_a_config_it_reloads_with_the_same_options(tmp_path):
    (tmp_path / "c.yaml").write_text(CONFIG)

    with serving(str(tmp_path), "--config", "c.yaml", "--host", "127.0.0.2") as process:
        process.send_signal(signal.SIGHUP)

        assert until(process, "reloaded")["needs_restart"] == []


@pytest.mark.parametrize(("workers", "directories"), [("1", 0), ("2", 1)])
def test_a_directory_for_the_workers_is_made_only_for_them(tmp_path, workers, directories):
    (tmp_path / "c.yaml").write_text(CONFIG)
    (tmp_path / "tmp").mkdir()
    arguments = ("--config", "c.yaml", "--workers", workers)

    with serving(str(tmp_path), *arguments, TMPDIR=str(tmp_path / "tmp")) as process:
        assert len(os.listdir(tmp_path / "tmp")) == directories
        process.terminate()
        process.communicate(timeout=20)

    assert os.listdir(tmp_path / "tmp") == []
