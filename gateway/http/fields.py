"""The fields of a request's JSON object, judged one by one; every error names the field."""

from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from gateway.domain.errors import BadParameter
from gateway.http.bodies import shown

T = TypeVar("T")


def check_names(body: Mapping[str, object], known: Collection[str], at: str = "body") -> None:
    """Raise `BadParameter` for a field that is not *known*."""
    for name in body:
        if name not in known:
            raise BadParameter(f"{at}: no field {shown(name)}")


def optional(body: Mapping[str, object], name: str, parse: Callable[[str, object], T]) -> T | None:
    """What *parse* makes of the field; null is the same as nothing."""
    value = body.get(name)
    return None if value is None else parse(name, value)


def text(at: str, value: object, most: int, least: int = 1) -> str:
    """A string of so many characters that can be written everywhere."""
    if not isinstance(value, str):
        raise BadParameter(f"{at}: must be a string")
    if not least <= len(value) <= most:
        raise BadParameter(f"{at}: must have {least} to {most} characters")
    if not is_storable(value):
        raise BadParameter(f"{at}: must not hold a NUL character or half a surrogate pair")
    return value


def texts(at: str, value: object, most: int, longest: int) -> list[str]:
    """At most *most* strings of at most *longest* characters."""
    if not isinstance(value, list):
        raise BadParameter(f"{at}: must be a list of strings")
    if len(value) > most:
        raise BadParameter(f"{at}: more than {most} entries")
    return [text(f"{at}.{number}", one, longest, least=0) for number, one in enumerate(value)]


def boolean(at: str, value: object) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise BadParameter(f"{at}: must be true or false")
    return value


def number(at: str, value: object, least: int, most: int) -> int:
    """A whole number from *least* to *most*."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadParameter(f"{at}: must be a whole number")
    if not least <= value <= most:
        raise BadParameter(f"{at}: must be from {least} to {most}")
    return value


def is_storable(text: str) -> bool:
    """Whether it has an encoding, and no NUL, which PostgreSQL does not take."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)
