"""`auth.jwt`: whose tokens are good, where the issuer's public keys are, what its claims mean."""

import json
from importlib.util import find_spec
from typing import Annotated, Literal
from urllib.parse import unquote

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError
from yarl import URL

from gateway.config.units import Duration

MOST_JWKS = 128 * 1024
"""Bytes of a key set, which take some 30 ms to read; large issuers have some ten thousand."""

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
    "ES256", "ES384", "ES512", "EdDSA", "Ed25519",
]  # fmt: skip
"""Asymmetric ones only: who can check a token must not be able to make one."""

_Text = Annotated[str, StringConstraints(min_length=1)]


_EXPECTED = "must be an https:// URL, a file:/// URL or an absolute path"


def _jwks(place: str) -> str:
    """The place as an https URL or an absolute path."""
    if place.startswith("file:///"):
        place = unquote(place.removeprefix("file://"))
    if place.startswith("/"):
        _check_file(place)
    else:
        _check_url(place)
    return place


def _check_url(text: str) -> None:
    try:
        url = URL(text)
    except ValueError:
        raise PydanticCustomError("jwks", "is no URL") from None
    if url.scheme != "https" or not url.host:
        raise PydanticCustomError("jwks", _EXPECTED)
    if url.user or url.password or url.fragment:
        raise PydanticCustomError("jwks", "must not have a credential or a fragment")


def _check_file(name: str) -> None:
    try:
        with open(name, "rb") as file:
            text = file.read(MOST_JWKS + 1)
    except OSError as exc:
        reason = {"file": name, "reason": exc.strerror}
        raise PydanticCustomError("jwks", "cannot read {file}: {reason}", reason) from exc
    except ValueError:
        raise PydanticCustomError("jwks", _EXPECTED) from None
    try:
        found = json.loads(text) if len(text) <= MOST_JWKS else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("keys"), list):
        raise PydanticCustomError("jwks", "{file} is not a JSON Web Key Set", {"file": name})


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Claims(_Section):
    """The names of the claims that say who it is and what they may do.

    *scopes* and *sessions* are lists of text or text with blanks. Without *sessions*, a token may
    see every session.
    """

    org: _Text = "org"
    scopes: _Text = "scope"
    sessions: _Text | None = None


class Jwt(_Section):
    """Bearer tokens of one issuer for one audience; *jwks_url* is an https URL or a path."""

    issuer: _Text
    audience: _Text
    jwks_url: Annotated[str, AfterValidator(_jwks)]
    algorithms: tuple[Algorithm, ...] = Field(
        default=("RS256", "ES256", "EdDSA", "Ed25519"), min_length=1
    )
    claims: Claims = Claims()
    leeway: Annotated[Duration, Field(le=300)] = 30.0

    @model_validator(mode="after")
    def _has_its_library(self) -> "Jwt":
        if find_spec("joserfc") is None:
            message = "needs the extra [jwt]: pip install 'workspace-gateway[jwt]'"
            raise PydanticCustomError("extra", message)
        return self
