"""From a YAML file to a `Config`, or to every problem at once."""

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from gateway.config.checks import check_values, cross_check, named_types
from gateway.config.errors import ConfigError, Loc, Problem
from gateway.config.marked_yaml import Document, read_file, read_text
from gateway.config.model import Config, config_model
from gateway.config.wording import say

Executors = Mapping[str, type[BaseModel]]
"""The config models of the known executor types; only those that a config names are looked up."""

Model = TypeVar("Model", bound=BaseModel)

_NOTHING = object()


def load(file: str, executors: Executors) -> Config:
    """Return the config in *file*; raise `ConfigError` with everything that is wrong with it."""
    return _config(read_file(file), executors)


def from_mapping(data: Mapping[str, object], executors: Executors, source: str) -> Config:
    """Return the config that *data* holds, judged as strictly as a file; raise `ConfigError`.

    *data* is made of what JSON knows; *source* stands where a file's name would.
    """
    return _config(Document(source, dict(data)), executors)


def read_model(document: Document, model: type[Model]) -> Model:
    """Return what *document* says as a *model*; raise `ConfigError` with all that is wrong."""
    data = document.data
    if not isinstance(data, dict):
        raise ConfigError([*document.problems, document.problem((), "must be a mapping")])
    problems = list(document.problems)
    found = _validated(model, data, document, document.unread, problems)
    return _sound(found, problems)


def default_text() -> str:
    """Return the annotated default, as `config init` prints it."""
    return files("gateway.config").joinpath("default.yaml").read_text(encoding="utf-8")


def default_data() -> dict[str, object]:
    """Return what the annotated default says."""
    data = read_text(default_text(), "default.yaml", {}).data
    assert isinstance(data, dict)
    return data


def _config(document: Document, executors: Executors) -> Config:
    data = document.data
    if not isinstance(data, dict):
        hint = "must be a mapping; 'workspace-gateway config init' prints one to start from"
        raise ConfigError([*document.problems, document.problem((), hint)])
    named = named_types(data)
    used = {name: executors[name] for name in executors if name in named}
    model = config_model(used or executors)
    problems, covered = list(document.problems), set(document.unread)
    for finding in cross_check(data, executors):
        problems.append(document.problem(finding.loc, finding.message))
        covered.add(finding.covers)
    config = _validated(model, _placed(data), document, covered, problems)
    found = () if config is None else check_values(config)
    problems.extend(document.problem(finding.loc, finding.message) for finding in found)
    return _sound(config, problems)


def _sound(found: Model | None, problems: list[Problem]) -> Model:
    if found is None or problems:
        raise ConfigError(sorted(problems, key=lambda problem: problem.line or 0))
    return found


def _placed(data: Mapping[str, object]) -> Mapping[str, object]:
    """With one executor there is no choice to write down; with none, worse will be said."""
    executors = data.get("executors")
    names = list(executors) if isinstance(executors, dict) else []
    if "placement" in data or len(names) > 1:
        return data
    return {**data, "placement": {"default": {"executor": (names or [""])[0]}}}


def _validated(
    model: type[Model],
    data: Mapping[str, object],
    document: Document,
    covered: set[Loc],
    problems: list[Problem],
) -> Model | None:
    """Return the model, or add what the models object to, unless it is *covered*."""
    try:
        # By way of JSON: pydantic's strict mode takes lists for tuples and text for enums there,
        # and still no "1" for 1.
        return model.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as exc:
        for error in exc.errors(include_url=False):
            if error["type"] == "too_short" and error["input"]:
                continue  # pydantic does not count the entries it has refused
            loc = _place(error["loc"], data, missing=error["type"] == "missing")
            known = any(loc[:end] in covered for end in range(1, len(loc) + 1))
            if not known or error["loc"][-1] == "[key]":
                message = say(error, model, document.written.get(loc))
                problems.append(document.problem(loc, message))
        return None


def _place(loc: Loc, data: object, *, missing: bool) -> Loc:
    """Drop from *loc* what pydantic adds for its own use, such as the tag of a union."""
    if not loc:
        return loc
    *parts, last = loc
    place: list[int | str] = []
    for part in parts:
        inside = _inside(data, part)
        if inside is not _NOTHING:
            data = inside
            place.append(part)
    if missing or _inside(data, last) is not _NOTHING:
        place.append(last)
    return tuple(place)


def _inside(data: object, part: int | str) -> object:
    if isinstance(data, dict):
        return data.get(part, _NOTHING)
    if isinstance(data, list) and isinstance(part, int):
        return data[part]
    return _NOTHING
