"""Finds a profile by its name or file, and reads it as strictly as a config."""

import os
from importlib.resources import files

from gateway.config.errors import ConfigError, Problem, did_you_mean
from gateway.config.load import read_model
from gateway.config.marked_yaml import read_file, read_text
from gateway.executors.http_profile.profile import Profile

_SHIPPED = files("gateway.executors.http_profile").joinpath("profiles")


def shipped() -> list[str]:
    """The names of the profiles that come with the gateway."""
    names = (entry.name for entry in _SHIPPED.iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def read_profile(name: str) -> Profile:
    """Return the profile; raise `ConfigError` with everything that is wrong with it.

    A *name* with a slash is a file; its path starts where the gateway was started.
    """
    if os.sep in name:
        return read_model(read_file(name), Profile)
    if name not in shipped():
        hint = did_you_mean(name, shipped())
        known = f"there are {', '.join(shipped())}; a file of your own is ./{name}.yaml"
        raise ConfigError([Problem(f"no profile {name!r}{hint}", None, (), known)])
    text = _SHIPPED.joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    return read_model(read_text(text, f"{name}.yaml", {}), Profile)
