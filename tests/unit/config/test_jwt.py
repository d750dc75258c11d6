"""`auth.jwt`: what it takes, and what it says about a mistake."""

import json
import sys
from pathlib import Path

import pytest

from gateway.config.errors import ConfigError
from gateway.config.jwt import MOST_JWKS, Claims
from gateway.config.load import load
from gateway.config.model import Config
from tests.unit.config.models import EXECUTORS

URL = "https://login.example.com/jwks"
EXPECTED = "must be an https:// URL, a file:/// URL or an absolute path"
TOO_MUCH = "must not have a credential or a fragment"


def loaded(tmp_path: Path, lines: str) -> Config:
    file = tmp_path / "c.yaml"
    file.write_text(f"executors: {{a: {{type: local, root: /x}}}}\nauth: {{jwt: {{{lines}}}}}\n")
    return load(str(file), EXECUTORS)


def problems(tmp_path: Path, lines: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, lines)
    return [str(problem).partition(": ")[2] for problem in caught.value.problems]


def test_three_lines_are_enough(tmp_path):
    jwt = loaded(tmp_path, f"issuer: me, audience: you, jwks_url: '{URL}'").auth.jwt

    assert jwt is not None
    assert (jwt.issuer, jwt.audience, jwt.jwks_url) == ("me", "you", URL)
    assert jwt.algorithms == ("RS256", "ES256", "EdDSA", "Ed25519")
    assert jwt.claims == Claims(org="org", scopes="scope", sessions=None)
    assert jwt.leeway == 30.0


def test_tokens_are_not_taken_unless_it_is_written(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("executors: {a: {type: local, root: /x}}\n")

    assert load(str(file), EXECUTORS).auth.jwt is None


def test_every_problem_at_once(tmp_path):
    found = problems(
        tmp_path,
        "isuer: me, audience: '', jwks_url: http://x/, algorithms: [HS256, none, RS256], "
        "leeway: 1h, claims: {org: '', scopes: [x], session: x}",
    )

    algorithms = (
        "must be one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, "
        "Ed25519, not"
    )
    assert found == [
        "auth.jwt.issuer: is missing",
        "auth.jwt.audience: must not be empty",
        f"auth.jwt.jwks_url: {EXPECTED}",
        f"auth.jwt.algorithms.0: {algorithms} 'HS256' (did you mean 'RS256'?)",
        f"auth.jwt.algorithms.1: {algorithms} 'none'",
        "auth.jwt.claims.org: must not be empty",
        "auth.jwt.claims.scopes: must be text, not a list",
        "auth.jwt.claims.session: unknown key (did you mean 'sessions'?)",
        "auth.jwt.leeway: must be at most 300, not '1h'",
        "auth.jwt.isuer: unknown key (did you mean 'issuer'?)",
    ]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("algorithms: []", "auth.jwt.algorithms: must have 1 or more"),
        ("issuer: [me]", "auth.jwt.issuer: must be text, not a list"),
        (
            "leeway: soon",
            "auth.jwt.leeway: must be a time such as 30s, 500ms, 2m or 1h, not 'soon'",
        ),
        ("jwks_url: ''", f"auth.jwt.jwks_url: {EXPECTED}"),
        ("jwks_url: keys.json", f"auth.jwt.jwks_url: {EXPECTED}"),
        (
            "jwks_url: /nowhere",
            "auth.jwt.jwks_url: cannot read /nowhere: No such file or directory",
        ),
        ("jwks_url: /etc", "auth.jwt.jwks_url: cannot read /etc: Is a directory"),
        ("jwks_url: /etc/passwd", "auth.jwt.jwks_url: /etc/passwd is not a JSON Web Key Set"),
        ("jwks_url: 'file:///x'", "auth.jwt.jwks_url: cannot read /x: No such file or directory"),
        ("jwks_url: 'file:///%00'", f"auth.jwt.jwks_url: {EXPECTED}"),
        ("jwks_url: 'file://host/x'", f"auth.jwt.jwks_url: {EXPECTED}"),
        ("jwks_url: 'https://'", f"auth.jwt.jwks_url: {EXPECTED}"),
        ("jwks_url: 'https:///x'", f"auth.jwt.jwks_url: {EXPECTED}"),
        ("jwks_url: 'https://x:99999/'", "auth.jwt.jwks_url: is no URL"),
        ("jwks_url: 'https://me:pw@x/'", f"auth.jwt.jwks_url: {TOO_MUCH}"),
        ("jwks_url: 'https://x/#y'", f"auth.jwt.jwks_url: {TOO_MUCH}"),
    ],
)
def test_what_is_said(tmp_path, lines, said):
    name = lines.partition(":")[0]
    others = {"issuer": "me", "audience": "you", "jwks_url": URL}
    rest = ", ".join(f"{key}: '{value}'" for key, value in others.items() if key != name)

    assert problems(tmp_path, f"{rest}, {lines}") == [said]


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{}", b'{"keys": {}}', b"\xff", b"[" * 5000, b" " * MOST_JWKS + b'{"keys": []}'],
    ids=lambda text: repr(text[:20]),
)
def test_a_file_must_be_a_key_set(tmp_path, text):
    file = tmp_path / "jwks"
    file.write_bytes(text)

    found = problems(tmp_path, f"issuer: me, audience: you, jwks_url: {file}")

    assert found == [f"auth.jwt.jwks_url: {file} is not a JSON Web Key Set"]
    file.write_text(json.dumps({"keys": []}))
    assert loaded(tmp_path, f"issuer: me, audience: you, jwks_url: {file}").auth.jwt is not None


def test_a_file_may_be_written_as_a_url(tmp_path):
    file = tmp_path / "the keys.json"
    file.write_text('{"keys": []}')

    jwt = loaded(tmp_path, f"issuer: me, audience: you, jwks_url: '{file.as_uri()}'").auth.jwt

    assert jwt is not None
    assert jwt.jwks_url == str(file)


def test_it_needs_an_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "joserfc", None)

    found = problems(tmp_path, f"issuer: me, audience: you, jwks_url: '{URL}'")

    assert found == ["auth.jwt: needs the extra [jwt]: pip install 'workspace-gateway[jwt]'"]
