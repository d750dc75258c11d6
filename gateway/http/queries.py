"""Reads query parameters by the rules of the dialects; the raw bytes are decoded once."""

from typing import Self
from urllib.parse import unquote_to_bytes

from aiohttp import web

from gateway.domain.errors import BadParameter

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class Query:
    """The parameters in a raw query string; unknown ones are ignored."""

    def __init__(self, raw: str) -> None:
        self._values: dict[str, list[bytes]] = {}
        for pair in raw.replace("+", " ").split("&") if raw else ():
            name, _, value = pair.partition("=")
            key = unquote_to_bytes(name).decode("utf-8", "replace")
            self._values.setdefault(key, []).append(unquote_to_bytes(value))

    @classmethod
    def of(cls, request: web.BaseRequest) -> Self:
        """The parameters of *request*."""
        return cls(request.rel_url.raw_query_string)

    def raws(self, name: str) -> list[bytes]:
        """The bytes of all values of a repeatable parameter."""
        return self._values.get(name, [])

    def raw(self, name: str) -> bytes | None:
        """The bytes of a parameter that may stand once; raise `BadParameter` if it stands twice."""
        values = self._values.get(name)
        if values is None:
            return None
        if len(values) > 1:
            raise BadParameter(f"{name}: given more than once")
        return values[0]

    def text(self, name: str) -> str | None:
        """The same as text; raise `BadParameter` if it is not UTF-8."""
        value = self.raw(name)
        return None if value is None else _text(name, value)

    def texts(self, name: str) -> list[str]:
        """All values of a repeatable parameter."""
        return [_text(name, value) for value in self.raws(name)]

    def below(self, prefix: str) -> dict[str, str]:
        """The parameters whose names begin with *prefix*, by the rest of their names.

        Raises what `text` raises.
        """
        names = [name for name in self._values if name.startswith(prefix)]
        return {name.removeprefix(prefix): self.text(name) or "" for name in names}

    def boolean(self, name: str) -> bool:
        """`true`, `false`, `1` or `0`; absent is false."""
        value = self.text(name)
        if value is None:
            return False
        if value not in _BOOLEANS:
            raise BadParameter(f"{name}: must be true, false, 1 or 0")
        return _BOOLEANS[value]

    def number(self, name: str, least: int, most: int) -> int | None:
        """A whole number from *least* to *most*, or None if it is absent."""
        value = self.text(name)
        if value is None:
            return None
        if not (value.isascii() and value.isdigit() and len(value) <= 18):
            raise BadParameter(f"{name}: must be a whole number")
        if not least <= int(value) <= most:
            raise BadParameter(f"{name}: must be from {least} to {most}")
        return int(value)


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise BadParameter(f"{name}: not valid UTF-8") from None
