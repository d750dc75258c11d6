"""`check`: every problem, and what the executors and the store say."""

import pytest

from gateway.cli.exits import Exit
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


def written(tmp_path, store):
    text = f"executors: {{local: {{type: local, root: .}}}}\nstore: {{url: {store}}}"
    (tmp_path / "c.yaml").write_text(text)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///var/gateway.db"])
def test_a_probe_of_a_store_makes_none(tmp_path, url):
    """The file would belong to whoever asks, not to the gateway's user."""
    written(tmp_path, url)

    result = command("check", "--config", "c.yaml", "--probe", cwd=str(tmp_path))

    assert result.returncode == Exit.OK
    assert result.stdout.splitlines()[2].startswith(f"store: ready (url: {url}")
    assert not (tmp_path / "var").exists()


def test_a_probe_of_a_store_that_is_there(tmp_path):
    written(tmp_path, "sqlite:///gateway.db")
    (tmp_path / "gateway.db").touch()

    result = command("check", "--config", "c.yaml", "--probe", cwd=str(tmp_path))

    assert result.returncode == Exit.OK
    assert result.stdout.splitlines()[2] == "store: ready (url: sqlite:///gateway.db)"


@pytest.mark.parametrize("url", ["sqlite:///c.yaml", "postgresql://me:secret@127.0.0.1:1/gateway"])
def test_a_probe_of_a_store_that_is_none(tmp_path, url):
    written(tmp_path, url)

    result = command("check", "--config", "c.yaml", "--probe", cwd=str(tmp_path))

    assert result.returncode == Exit.UNAVAILABLE
    assert result.stdout.splitlines()[2].startswith("store: not ready (error: ")
    assert "secret" not in result.stdout + result.stderr
