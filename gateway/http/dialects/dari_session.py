"""Dari's session object: what a client may say of a new one, and what it is told of any."""

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from gateway.domain.errors import BadParameter
from gateway.domain.records import Session
from gateway.http.bodies import shown
from gateway.service.provisioning import NewSession

_FIELDS = frozenset(
    {"name", "storage_binding_id", "metadata", "secrets", "llm_api_key", "internet_access"}
)
_SECRET_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
_MOST_ENTRIES = 64
_LONGEST_NAME = 256  # characters
_LONGEST_VALUE = 4096
_LONGEST_SECRET = 64 * 1024

T = TypeVar("T")


def new_session(body: Mapping[str, object]) -> NewSession:
    """What *body* says; raise `BadParameter` that names the first field that is wrong.

    null is the same as nothing. No value of a secret is ever repeated in an error.
    """
    for name in body:
        if name not in _FIELDS:
            raise BadParameter(f"body: no field {shown(name)}")
    # For calls of a model, which are none of a gateway's: judged, and kept nowhere.
    _optional(body, "llm_api_key", lambda at, value: _text(at, value, _LONGEST_SECRET))
    return NewSession(
        name=_optional(body, "name", _name),
        storage_binding_id=_optional(body, "storage_binding_id", _name),
        metadata=_optional(body, "metadata", _metadata) or {},
        secrets=_optional(body, "secrets", _secrets) or {},
        internet_access=_optional(body, "internet_access", _boolean),
    )


def session_object(session: Session) -> dict[str, object]:
    """The documented form of *session*."""
    return {
        "id": session.id,
        "name": session.name,
        "agent_id": session.agent_id,
        "version_id": session.version_id,
        "storage_binding_id": session.storage_binding_id,
        "internet_access": session.internet_access,
        "status": session.status,
        "last_message_id": session.last_message_id,
        "last_message_status": session.last_message_status,
        "created_at": f"{session.created_at:%Y-%m-%dT%H:%M:%SZ}",
        "metadata": dict(session.metadata),
    }


def _optional(body: Mapping[str, object], name: str, parse: Callable[[str, object], T]) -> T | None:
    value = body.get(name)
    return None if value is None else parse(name, value)


def _metadata(at: str, value: object) -> dict[str, str]:
    found = {}
    for name, text in _mapping(at, value).items():
        if not 0 < len(name) <= _LONGEST_NAME or not _is_storable(name):
            raise BadParameter(f"{at}: names must have 1 to {_LONGEST_NAME} characters, none a NUL")
        found[name] = _text(f"{at}.{shown(name)[1:-1]}", text, _LONGEST_VALUE, least=0)
    return found


def _secrets(at: str, value: object) -> dict[str, str]:
    found = {}
    for name, text in _mapping(at, value).items():
        # Not repeated: somebody may have taken the name's place for the value's.
        if len(name) > _LONGEST_NAME or _SECRET_NAME.fullmatch(name) is None:
            raise BadParameter(f"{at}: names must match ^[A-Z_][A-Z0-9_]*$")
        found[name] = _text(f"{at}.{name}", text, _LONGEST_SECRET)
    return found


def _mapping(at: str, value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise BadParameter(f"{at}: must be an object")
    if len(value) > _MOST_ENTRIES:
        raise BadParameter(f"{at}: more than {_MOST_ENTRIES} entries")
    return value


def _name(at: str, value: object) -> str:
    return _text(at, value, _LONGEST_NAME)


def _text(at: str, value: object, most: int, least: int = 1) -> str:
    if not isinstance(value, str):
        raise BadParameter(f"{at}: must be a string")
    if not least <= len(value) <= most:
        raise BadParameter(f"{at}: must have {least} to {most} characters")
    if not _is_storable(value):
        raise BadParameter(f"{at}: must not hold a NUL character or half a surrogate pair")
    return value


def _boolean(at: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise BadParameter(f"{at}: must be true or false")
    return value


def _is_storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)
