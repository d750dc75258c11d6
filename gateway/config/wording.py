"""Says what pydantic found wrong in words for people, with a suggestion where one is near."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from gateway.config.errors import did_you_mean

Say = Callable[[Mapping[str, Any], str], str]
"""From an error's context and the offending value, as it may be shown, to the message."""

_SAY: dict[str, Say] = {
    "missing": lambda _, __: "is missing",
    "bool_type": lambda _, shown: f"must be true or false, not {shown}",
    "float_type": lambda _, shown: f"must be a number, not {shown}",
    "int_type": lambda _, shown: f"must be a whole number, not {shown}",
    "int_from_float": lambda _, shown: f"must be a whole number, not {shown}",
    "greater_than": lambda ctx, shown: f"must be more than {ctx['gt']}, not {shown}",
    "greater_than_equal": lambda ctx, shown: f"must be at least {ctx['ge']}, not {shown}",
    "less_than": lambda ctx, shown: f"must be less than {ctx['lt']}, not {shown}",
    "less_than_equal": lambda ctx, shown: f"must be at most {ctx['le']}, not {shown}",
    "string_pattern_mismatch": lambda ctx, _: f"must match {ctx['pattern'].strip('^$')}",
    "string_too_short": lambda _, __: "must not be empty",
    "too_short": lambda ctx, _: f"must have {ctx['min_length']} or more",
    "value_error": lambda ctx, _: str(ctx["error"]),
}
_SHAPES = {
    "dict_type": "a mapping",
    "list_type": "a list",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "tuple_type": "a list",
}
_SHOWING = {"duration", "instant", "mode", "network", "size"}
_CHOICES = {"enum", "literal_error"}
_SHOWN_LENGTH = 60


def say(error: ErrorDetails, model: type[BaseModel], written: str | None) -> str:
    """Return the message for *error*; *written* is the text of the file if a variable was in it.

    A variable's value is never shown, nor is the value of anything that could be a secret.
    """
    kind, context, value = error["type"], error.get("ctx", {}), error["input"]
    shown = f"the value of {written!r}" if written is not None else _shown(value)
    if kind == "extra_forbidden":
        return f"unknown key{did_you_mean(error['loc'][-1], _keys(model, error['loc'][:-1]))}"
    if kind == "string_type":
        quote = "; put it in quotes" if isinstance(value, bool | int | float) else ""
        return f"must be text, not {_kind(value)}{quote}"
    if kind in _SHAPES:
        return f"must be {_SHAPES[kind]}, not {_kind(value)}"
    if kind in _CHOICES:
        choices = re.findall(r"'([^']*)'", context["expected"])
        hint = did_you_mean(value, choices) if written is None else ""
        return f"must be one of {', '.join(choices)}, not {shown}{hint}"
    if kind in _SAY:
        return _SAY[kind](context, shown)
    message = error["msg"]
    message = message[:1].lower() + message[1:].rstrip(".")
    return f"{message}, not {shown}" if kind in _SHOWING else message


def _shown(value: object) -> str:
    if isinstance(value, bool) or value is None or isinstance(value, dict | list):
        return _kind(value)
    text = repr(value)
    return text if len(text) <= _SHOWN_LENGTH else f"{text[:_SHOWN_LENGTH]}..."


def _kind(value: object) -> str:
    match value:
        case None:
            return "empty"
        case bool():
            return str(value).lower()
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "a mapping"


def _keys(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Return the keys that the models at *loc* have, from the outermost *model* inwards."""
    models = [model]
    for part in loc:
        tagged = [one for one in models if part in _tags(one)]
        fields = [one.model_fields[part] for one in models if part in one.model_fields]
        inner = [one for field in fields for one in _models(field.annotation)]
        models = tagged or inner or models
    return [key for one in models for key in one.model_fields]


def _tags(model: type[BaseModel]) -> tuple[object, ...]:
    field = model.model_fields.get("type")
    return get_args(field.annotation) if field else ()


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
