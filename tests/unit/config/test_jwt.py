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


def loaded(tmp_path: Path, lines: str) -> Config:
    file = tmp_path / "c.yaml"
    file.write_text(f"executors: {{a: {{type: local, root: /x}}}}\nauth: {{jwt: {{{lines}}}}}\n")
    return load(str(file), EXECUTORS)


def problems(tmp_path: Path, lines: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, lines)
    return [str(problem).partition(": ")[2] for problem in caught.value.problems]


def test_three_lines_are_enough(tmp_path):
    jwt = loaded(tmp_path, f"issuer: me, audience: you, jwks: '{URL}'").auth.jwt

    assert jwt is not None
    assert (jwt.issuer, jwt.audience, jwt.jwks) == ("me", "you", URL)
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
        "isuer: me, audience: '', jwks: http://x/, algorithms: [HS256, none, RS256], leeway: 1h, "
        "claims: {org: '', scopes: [x], session: x}",
    )

    algorithms = (
        "must be one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, "
        "Ed25519, not"
    )
    assert found == [
        "auth.jwt.issuer: is missing",
        "auth.jwt.audience: must not be empty",
        "auth.jwt.jwks: must be a file or an https:// URL",
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
        ("jwks: ''", "auth.jwt.jwks: cannot read : No such file or directory"),
        ("jwks: /nowhere", "auth.jwt.jwks: cannot read /nowhere: No such file or directory"),
        ("jwks: /etc", "auth.jwt.jwks: cannot read /etc: Is a directory"),
        ("jwks: /etc/passwd", "auth.jwt.jwks: /etc/passwd is not a JSON Web Key Set"),
        ("jwks: 'file:///x'", "auth.jwt.jwks: must be a file or an https:// URL"),
        ("jwks: 'https://'", "auth.jwt.jwks: must be a file or an https:// URL"),
        ("jwks: 'https:///x'", "auth.jwt.jwks: must be a file or an https:// URL"),
        ("jwks: 'https://x:99999/'", "auth.jwt.jwks: is no URL"),
        ("jwks: 'https://me:pw@x/'", "auth.jwt.jwks: must not have a credential or a fragment"),
        ("jwks: 'https://x/#y'", "auth.jwt.jwks: must not have a credential or a fragment"),
    ],
)
def test_what_is_said(tmp_path, lines, said):
    name = lines.partition(":")[0]
    others = {"issuer": "me", "audience": "you", "jwks": URL}
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

    found = problems(tmp_path, f"issuer: me, audience: you, jwks: {file}")

    assert found == [f"auth.jwt.jwks: {file} is not a JSON Web Key Set"]
    file.write_text(json.dumps({"keys": []}))
    assert loaded(tmp_path, f"issuer: me, audience: you, jwks: {file}").auth.jwt is not None


def test_it_needs_an_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "joserfc", None)

    found = problems(tmp_path, f"issuer: me, audience: you, jwks: '{URL}'")

    assert found == ["auth.jwt: needs the extra [jwt]: pip install 'workspace-gateway[jwt]'"]
