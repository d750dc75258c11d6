"""A config for `serve --root DIR`, without a file: the defaults, and a key beside the root."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.auth.api_key import digest, new_key
from gateway.cli.config_file import ExecutorModels
from gateway.config.errors import ConfigError, Problem
from gateway.config.load import default_data, from_mapping
from gateway.config.marked_yaml import read_file
from gateway.config.model import Config
from gateway.config.written_yaml import written

KeyEntry = dict[str, Any]
"""A key as `auth.keys` of a config has it."""


def keys_beside(root: str) -> tuple[list[KeyEntry], str | None]:
    """Return the keys in `<root>.keys.yaml`; the first time, make one and return it as well.

    The new key can be shown now and never again. Raises `ConfigError` if the file cannot be used.
    """
    file = keys_file(root)
    if os.path.lexists(file):
        return _stored(file), None
    key = new_key("first")
    entries = [key_entry("first", key)]
    try:
        _create(file, f"# Keys for {root!a}, in the form of auth.keys.\n{written(entries)}")
    except FileExistsError:  # another gateway, started at the same moment, was faster
        return _stored(file), None
    except OSError as exc:
        problem = Problem(file, None, (), f"cannot be written: {exc.strerror}")
        raise ConfigError([problem]) from exc
    return entries, key


def key_entry(key_id: str, key: str) -> KeyEntry:
    """Return what the config says of *key*, which may read everything."""
    return {
        "id": key_id,
        "org": "default",
        "sha256": digest(key).hex(),
        "scopes": ["files:read", "archives:read", "sessions:read"],
    }


def config_for_root(
    root: str, keys: Sequence[KeyEntry], server: Mapping[str, object] | None = None
) -> Config:
    """Return the built-in default for *root* and *keys*, with *server* over its section.

    Raises `ConfigError`.
    """
    data: dict[str, Any] = default_data()
    data["executors"]["local"]["root"] = root
    data["auth"]["keys"] = list(keys)
    data["server"].update(server or {})
    return from_mapping(data, ExecutorModels(), f"serve --root {root}")


def keys_file(root: str) -> str:
    """Return the name of the file that holds the keys for *root*."""
    return f"{os.path.abspath(root)}.keys.yaml"


def _stored(file: str) -> list[KeyEntry]:
    document = read_file(file)
    if document.problems:
        raise ConfigError(document.problems)
    if not isinstance(document.data, list):
        raise ConfigError([document.problem((), "must be a list of keys")])
    return document.data


def _create(file: str, text: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with open(os.open(file, flags, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)
