"""What one listener serves: what stands at which path, and what all handlers share."""

import re
from typing import Any, Protocol, TypeVar

from aiohttp import web

from gateway.http.answers import Response
from gateway.http.context import UNMATCHED
from gateway.http.dialects.base import NATIVE, Dialect

T = TypeVar("T")

_VARIABLE = re.compile(r"\{(\w+):(.+?)\}")


class Place(Protocol):
    """What stands at a template; *name* is what logs and metrics call it."""

    name: str
    dialect: Dialect

    async def answer(self, request: web.BaseRequest) -> Response:
        """Answer, or raise what becomes an answer in the dialect."""


class Site:
    """Places, none of which covers a path of another's, and *shared*: what every request brings."""

    def __init__(self) -> None:
        self.shared: dict[web.RequestKey[Any] | str, Any] = {}
        self._template = ""
        self._places: dict[int, tuple[Place, tuple[str, ...]]] = {}
        self._pattern = re.compile("(?!)")

    def share(self, key: web.RequestKey[T], value: T) -> None:
        """Let `request[key]` be *value*."""
        self.shared[key] = value

    def mount(self, template: str, place: Place) -> None:
        """Have *place* answer where *template* fits, a path with variables as `{name:pattern}`."""
        parts = _VARIABLE.split(template)  # text, name, pattern, text, ...
        pattern = re.escape(parts[0]) + "".join(
            f"({pattern}){re.escape(text)}"
            for pattern, text in zip(parts[2::3], parts[3::3], strict=True)
        )
        self._places[self._pattern.groups + 1] = (place, tuple(parts[1::3]))
        self._template += f"|({pattern})" if self._template else f"({pattern})"
        self._pattern = re.compile(self._template)

    def find(self, path: str) -> tuple[Place, dict[str, str]]:
        """What stands at *path*, in which `%2F` and `%25` are still encoded, with its variables."""
        found = self._pattern.fullmatch(path)
        if found is None or found.lastindex is None:
            return _NOWHERE, {}
        first = found.lastindex  # the outermost group is the last to be closed
        place, names = self._places[first]
        values = found.groups()[first : first + len(names)]
        return place, dict(zip(names, map(_decoded, values), strict=True))


class _Nowhere:
    name = UNMATCHED
    dialect = NATIVE

    async def answer(self, request: web.BaseRequest) -> Response:
        raise web.HTTPNotFound


_NOWHERE = _Nowhere()


def _decoded(value: str) -> str:
    return value.replace("%2F", "/").replace("%25", "%") if "%" in value else value
