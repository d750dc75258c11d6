"""`keys create` and `keys hash`, and the keys themselves."""

import hashlib
import re
import string
import zlib

import pytest
import yaml
from click.testing import CliRunner

from gateway.auth.api_key import digest, is_mistyped, new_key
from gateway.cli import main
from gateway.cli.exits import Exit
from tests.unit.cli.command import command

CREATE = ["keys", "create", "--id", "ci", "--org", "acme", "--scope", "files:read"]


def test_the_parts_of_a_key():
    """Scanners find it by its form, and its checksum tells it from what only looks like one."""
    rest, checksum = (key := new_key("a.b_c-1")).rsplit("_", 1)
    prefix, secret = rest.rsplit("_", 1)

    assert prefix == "wsg_a.b_c-1"
    assert re.fullmatch("[A-Za-z0-9]{22}", secret)
    assert re.fullmatch("[A-Za-z0-9]{6}", checksum)
    digits = string.digits + string.ascii_uppercase + string.ascii_lowercase
    number = sum(digits.index(digit) * 62**n for n, digit in enumerate(reversed(checksum)))
    assert number == zlib.crc32(rest.encode())
    assert re.fullmatch("[A-Za-z0-9._-]+", key)


def test_no_two_keys_are_alike():
    assert len({new_key("x") for _ in range(1000)}) == 1000


def test_a_digest_is_that_of_the_bytes():
    assert digest("é") == digest("é".encode()) == hashlib.sha256("é".encode()).digest()


def test_create_prints_the_key_alone_and_what_the_config_needs_apart():
    result = CliRunner().invoke(
        main,
        [*CREATE, "--scope", "admin", "--sessions", "team-*", "--expires", "2099-01-01"],
    )

    assert result.exit_code == Exit.OK
    key = result.stdout.removesuffix("\n")
    assert key.startswith("wsg_ci_")
    assert key not in result.stderr
    lines = result.stderr.split("\n", 2)[2]
    assert yaml.safe_load(lines) == {
        "auth": {
            "keys": [
                {
                    "id": "ci",
                    "org": "acme",
                    "sha256": digest(key).hex(),
                    "scopes": ["files:read", "admin"],
                    "sessions": ["team-*"],
                    "expires": "2099-01-01T00:00:00Z",
                }
            ]
        }
    }


def test_the_lines_work_in_a_config(tmp_path):
    result = command(*CREATE)
    file = tmp_path / "c.yaml"
    lines = result.stderr.split("\n", 2)[2]
    file.write_text(f"executors: {{local: {{type: local, root: .}}}}\n{lines}")

    assert command("check", "--config", str(file)).returncode == Exit.OK


def test_quiet_prints_nothing_else():
    result = command(*CREATE, "-q")

    assert re.fullmatch(r"wsg_ci_[A-Za-z0-9]{22}_[A-Za-z0-9]{6}\n", result.stdout)
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--id", "a b"], "--id: must match [A-Za-z0-9._-]{1,64}"),
        (["--id", "a\n"], "--id: must match [A-Za-z0-9._-]{1,64}"),
        (["--org", ""], "--org: must not be empty"),
        (["--sessions", ""], "--sessions: must not be empty"),
        (["--scope", "everything"], "'everything' is not one of"),
        (["--expires", "soon"], "--expires: 'soon' is not a date such as 2027-01-31"),
        (["--expires", "2001-01-01"], "--expires: 2001-01-01 is in the past"),
    ],
)
def test_what_cannot_be_a_key(arguments, said):
    result = CliRunner().invoke(main, [*CREATE, *arguments])

    assert result.exit_code == Exit.USAGE
    assert result.stdout == ""
    assert said in result.stderr


@pytest.mark.parametrize("stdin", ["sk_abc", "sk_abc\n", "sk_abc\r\n"])
def test_hash_reads_the_key_from_standard_input(stdin):
    result = command("keys", "hash", stdin=stdin)

    assert (result.returncode, result.stderr) == (Exit.OK, "")
    assert result.stdout == f"{hashlib.sha256(b'sk_abc').hexdigest()}\n"


@pytest.mark.parametrize("stdin", ["", "\n", "a\nb\n"])
def test_hash_takes_one_line(stdin):
    assert command("keys", "hash", stdin=stdin).returncode == Exit.USAGE


@pytest.mark.parametrize("end", ["", "\n", "\nmore\n"])
def test_hash_takes_all_of_it_or_nothing(end):
    """The digest of the first part would be that of another key."""
    most = "k" * 64 * 1024

    result = command("keys", "hash", stdin=f"{most}k{end}")

    assert (result.returncode, result.stdout) == (Exit.USAGE, "")
    assert "standard input holds more than 65536 bytes: not a key" in result.stderr
    assert command("keys", "hash", stdin=most).returncode == Exit.OK


@pytest.mark.parametrize("at", range(len("wsg_"), len(new_key("ci"))))
def test_one_wrong_character_is_seen_without_asking_anybody(at):
    key = new_key("ci").encode()
    other = b"x" if key[at] != ord("x") else b"y"

    assert not is_mistyped(key)
    assert is_mistyped(key[:at] + other + key[at + 1 :])
    assert is_mistyped(key[:at] + key[at + 1 :])


@pytest.mark.parametrize("key", ["wsg_ci_0123456789abcdefghijkl_00000", "wsg_", "wsg_demo"])
def test_hash_refuses_a_mistyped_key(key):
    """Its digest would let nobody in."""
    result = command("keys", "hash", stdin=key)

    assert (result.returncode, result.stdout) == (Exit.USAGE, "")
    assert "this key is mistyped or cut off: its checksum does not match" in result.stderr
    assert f"{key}\n" not in result.stderr


def test_hash_takes_no_argument():
    """Everybody on the machine can see those."""
    assert command("keys", "hash", "sk_abc").returncode == Exit.USAGE
