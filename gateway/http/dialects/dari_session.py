"""Dari's session object: what a client may say of a new one, and what it is told of any."""

import re
from collections.abc import Mapping

from gateway.domain.errors import BadParameter
from gateway.domain.records import Session
from gateway.http.bodies import shown
from gateway.http.fields import boolean, check_names, is_storable, optional, text
from gateway.service.provisioning import NewSession

_FIELDS = frozenset(
    {"name", "storage_binding_id", "metadata", "secrets", "llm_api_key", "internet_access"}
)
_SECRET_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
_MOST_ENTRIES = 64
_LONGEST_NAME = 256  # characters
_LONGEST_VALUE = 4096
_LONGEST_SECRET = 64 * 1024


def new_session(body: Mapping[str, object]) -> NewSession:
    """What *body* says; raise `BadParameter` that names the first field that is wrong.

    null is the same as nothing. No value of a secret is ever repeated in an error.
    """
    check_names(body, _FIELDS)
    # For calls of a model, which are none of a gateway's: judged, and kept nowhere.
    optional(body, "llm_api_key", lambda at, value: text(at, value, _LONGEST_SECRET))
    return NewSession(
        name=optional(body, "name", _name),
        storage_binding_id=optional(body, "storage_binding_id", _name),
        metadata=optional(body, "metadata", _metadata) or {},
        secrets=optional(body, "secrets", _secrets) or {},
        internet_access=optional(body, "internet_access", boolean),
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


def _metadata(at: str, value: object) -> dict[str, str]:
    found = {}
    for name, given in _mapping(at, value).items():
        if not 0 < len(name) <= _LONGEST_NAME or not is_storable(name):
            raise BadParameter(f"{at}: names must have 1 to {_LONGEST_NAME} characters, none a NUL")
        found[name] = text(f"{at}.{shown(name)[1:-1]}", given, _LONGEST_VALUE, least=0)
    return found


def _secrets(at: str, value: object) -> dict[str, str]:
    found = {}
    for name, given in _mapping(at, value).items():
        # Not repeated: somebody may have taken the name's place for the value's.
        if len(name) > _LONGEST_NAME or _SECRET_NAME.fullmatch(name) is None:
            raise BadParameter(f"{at}: names must match ^[A-Z_][A-Z0-9_]*$")
        found[name] = text(f"{at}.{name}", given, _LONGEST_SECRET)
    return found


def _mapping(at: str, value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise BadParameter(f"{at}: must be an object")
    if len(value) > _MOST_ENTRIES:
        raise BadParameter(f"{at}: more than {_MOST_ENTRIES} entries")
    return value


def _name(at: str, value: object) -> str:
    return text(at, value, _LONGEST_NAME)
