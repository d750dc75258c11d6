"""JSON Pointers (RFC 6901): where in an answer something stands."""

from typing import Annotated, Final

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

MISSING: Final = object()
"""What `found` returns where there is nothing; JSON's null is something."""


def _checked(text: str) -> str:
    if text and not text.startswith("/"):
        hint = "must be a JSON Pointer: empty for the whole answer, or /like/this"
        raise PydanticCustomError("pointer", hint)
    if "~" in text.replace("~0", "").replace("~1", ""):
        raise PydanticCustomError("pointer", "in a JSON Pointer, ~ is written ~0 and / is ~1")
    return text


Pointer = Annotated[str, AfterValidator(_checked)]


def found(data: object, pointer: str) -> object:
    """The value at *pointer* in *data*, which JSON was made into; `MISSING` if there is none."""
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(data, dict) and key in data:
            data = data[key]
        elif isinstance(data, list) and _is_index(key) and int(key) < len(data):
            data = data[int(key)]
        else:
            return MISSING
    return data


def _is_index(key: str) -> bool:
    """Whether *key* is an array index of RFC 6901 section 4: no sign, no leading zero."""
    return key.isascii() and key.isdigit() and len(key) < 10 and (key == "0" or key[0] != "0")
