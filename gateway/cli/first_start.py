"""A config for `serve --root DIR`, without a file: the defaults, and a key beside the root."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.auth.api_key import digest, new_key
from gateway.cli.config_file import ExecutorModels, with_options
from gateway.config.errors import ConfigError, Problem
from gateway.config.load import default_data, from_mapping
from gateway.config.marked_yaml import read_file
from gateway.config.model import Config
from gateway.config.store_url import sqlite_url
from gateway.config.written_yaml import written

KeyEntry = dict[str, Any]
"""A key as `auth.keys` of a config has it."""


def config_beside(root: str, options: Mapping[str, object]) -> tuple[Config, str | None]:
    """Return the config for *root* and the keys in `<root>.keys.yaml`; the first time, a key, too.

    The new key can be shown now and never again: its digest is only kept once nothing else can go
    wrong. *options* are those of `with_options`. Raises `ConfigError`.
    """
    file = keys_file(root)
    if not os.path.lexists(file):
        key = new_key("first")
        entries = [key_entry("first", key)]
        config = with_options(config_for_root(root, entries), options)
        if _created(file, f"# Keys for {root!a}, in the form of auth.keys.\n{written(entries)}"):
            return config, key
    return with_options(config_for_root(root, _stored(file)), options), None


def key_entry(key_id: str, key: str) -> KeyEntry:
    """Return what the config says of *key*, which may read everything."""
    return {
        "id": key_id,
        "org": "default",
        "sha256": digest(key).hex(),
        "scopes": ["files:read", "archives:read", "sessions:read"],
    }


def config_for_root(
    root: str, keys: Sequence[KeyEntry], changes: Mapping[str, Mapping[str, object]] | None = None
) -> Config:
    """Return the built-in default for *root* and *keys*, with *changes* over its sections.

    Raises `ConfigError`.
    """
    source = f"serve --root {root}"
    try:
        root.encode()
    except UnicodeEncodeError as exc:
        loc = ("executors", "local", "root")
        problem = Problem(source, None, loc, "is not text that UTF-8 can hold")
        raise ConfigError([problem]) from exc
    data: dict[str, Any] = default_data()
    data["executors"]["local"]["root"] = root
    data["auth"]["keys"] = list(keys)
    data["store"]["url"] = sqlite_url(f"{os.path.abspath(root)}.gateway.db")
    for section, values in (changes or {}).items():
        data[section].update(values)
    return from_mapping(data, ExecutorModels(), source)


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


def _created(file: str, text: str) -> bool:
    """Whether *file* holds *text* now; not if it was there already. Raise `ConfigError`."""
    try:
        # It appears as a whole or not at all, even to a gateway that starts at the same moment.
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=os.path.dirname(file), prefix=".workspace-gateway-"
        ) as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
            os.link(stream.name, file)
    except FileExistsError:
        return False
    except OSError as exc:
        problem = Problem(file, None, (), f"cannot be written: {exc.strerror}")
        raise ConfigError([problem]) from exc
    return True
