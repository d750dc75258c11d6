"""The address of the store, and how to show it without the password that may be in it."""

import os
from typing import Annotated
from urllib.parse import SplitResult, parse_qs, quote, unquote_to_bytes, urlsplit

from pydantic import AfterValidator, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

IN_MEMORY = "sqlite://"

_POSTGRES = {"postgres", "postgresql"}


def sqlite_url(file: str) -> str:
    """The address of the SQLite database in *file*."""
    return f"{IN_MEMORY}/{quote(os.fsencode(os.path.abspath(file)))}"


def sqlite_file(url: str) -> str | None:
    """The absolute path that an address of SQLite names; None: it is in memory."""
    path = os.fsdecode(unquote_to_bytes(urlsplit(url).path))
    return os.path.abspath(path.removeprefix("/")) if path else None


def state_file() -> str:
    """Where the store is if nobody says it, by the rules of the XDG base directories."""
    state = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):
        state = os.path.expanduser("~/.local/state")
    return os.path.join(state, "workspace-gateway", "gateway.db")


def _checked(url: str) -> str:
    # Neither message repeats the address: there may be a password in it.
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise _refused("is no address: sqlite:///FILE or postgresql://USER@HOST/DATABASE") from None
    if parts.scheme == "sqlite":
        return _sqlite(url, parts)
    if parts.scheme not in _POSTGRES:
        raise _refused("must begin with sqlite:// or postgresql://")
    if parts.fragment or "@" in parts.path:
        raise _refused("must have /, ?, # and @ of its password as %2F, %3F, %23 and %40")
    if not parts.path.strip("/") and "dbname" not in parse_qs(parts.query):
        raise _refused("must name a database: postgresql://USER@HOST/DATABASE")
    return url


def _sqlite(url: str, parts: SplitResult) -> str:
    if parts.netloc:
        raise _refused("needs three slashes before a relative path and four before an absolute one")
    if parts.query or parts.fragment:
        raise _refused("takes no options; write %3F and %23 for ? and # in the file's name")
    if not url.startswith(IN_MEMORY):
        raise _refused("must begin with sqlite://")
    path = unquote_to_bytes(parts.path)
    if b"\0" in path or path.endswith(b"/"):
        raise _refused("must name a file: sqlite:///var/gateway.db")
    return url


def shown(url: str) -> str:
    """*url* without its password."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    netloc = f"{name}{':…' if colon else ''}{at}{host}"
    options = parts.query.split("&") if parts.query else []
    told = [
        f"{name}=…" if "password" in (name := option.partition("=")[0]) else option
        for option in options
    ]
    return f"{parts.scheme}://{netloc}{parts.path}{'?' if told else ''}{'&'.join(told)}"


def _refused(message: str) -> PydanticCustomError:
    return PydanticCustomError("store_url", message)


StoreUrl = Annotated[
    str,
    AfterValidator(_checked),
    PlainSerializer(shown, when_used="json"),
    WithJsonSchema(
        {"type": "string", "examples": ["sqlite:///var/gateway.db", "postgresql://user@host/db"]}
    ),
]
