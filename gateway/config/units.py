"""The types of config values that have a unit or a grammar of their own."""

import re
from collections.abc import Mapping
from datetime import datetime
from fractions import Fraction
from ipaddress import IPv4Network, IPv6Network, ip_interface
from typing import Annotated

from pydantic import Field, PlainSerializer, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

_MODE = re.compile(r"0?[0-7]{3}")
_AMOUNT = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([A-Za-z]*)")
_BYTES = {
    "": Fraction(1),
    "B": Fraction(1),
    "kB": Fraction(1000),
    **{f"{letter}B": Fraction(1000**n) for n, letter in enumerate("KMGT", 1)},
    **{f"{letter}iB": Fraction(1024**n) for n, letter in enumerate("KMGT", 1)},
}
_SECONDS = {
    "": Fraction(1),
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
}


def _size(value: object) -> int:
    """Return a number of bytes; fractions of a byte are no size."""
    amount = _amount(value, _BYTES)
    if amount is None or amount.denominator != 1:
        raise PydanticCustomError("size", "must be a size such as 100MiB, 100MB or 4096")
    return int(amount)


def _duration(value: object) -> float:
    """Return a number of seconds."""
    amount = _amount(value, _SECONDS)
    if amount is None:
        raise PydanticCustomError("duration", "must be a time such as 30s, 500ms, 2m or 1h")
    return float(amount)


def _amount(value: object, units: Mapping[str, Fraction]) -> Fraction | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return Fraction(value) if 0 <= value < 2**53 else None
    found = _AMOUNT.fullmatch(value) if isinstance(value, str) else None
    if found is None or found[2] not in units:
        return None
    amount = Fraction(found[1]) * units[found[2]]
    return amount if amount < 2**53 else None


def _network(value: object) -> IPv4Network | IPv6Network:
    """Return an address or a network; numbers, which ipaddress would take, are refused."""
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    try:
        found = ip_interface(value) if isinstance(value, str) else None
    except ValueError:
        found = None
    if found is None:
        raise PydanticCustomError("network", "must be a network such as 10.0.0.0/8")
    if found.ip != found.network.network_address:
        message = "has bits set beyond its prefix; its network is {network}"
        raise PydanticCustomError("network_bits", message, {"network": str(found.network)})
    return found.network


def _mode(value: object) -> str:
    """Return a file's mode in octal; a number is refused: many a YAML reader takes 0660 for 432."""
    if not isinstance(value, str) or _MODE.fullmatch(value) is None:
        raise PydanticCustomError("mode", 'must be a mode in quotes such as "0660"')
    return value


def _instant(value: object) -> datetime:
    """Return a moment; without a time zone it would be another one on another machine."""
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise PydanticCustomError("instant", "must be a time with its zone: 2027-01-31T00:00:00Z")
    return moment


def _written_size(size: int) -> str | int:
    units = [(f"{letter}iB", 1024**n) for n, letter in enumerate("KMGT", 1)]
    fitting = [(unit, factor) for unit, factor in units if size and size % factor == 0]
    return f"{size // fitting[-1][1]}{fitting[-1][0]}" if fitting else size


def _written_instant(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _schema(kind: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": ["string", kind], "examples": list(examples)})


Size = Annotated[
    int,
    PlainValidator(_size),
    PlainSerializer(_written_size, when_used="json"),
    _schema("integer", "100MiB", "100MB"),
]
Duration = Annotated[
    float,
    PlainValidator(_duration),
    PlainSerializer(lambda seconds: f"{seconds:.15g}s", when_used="json"),
    _schema("number", "30s", "500ms", "2m", "1h"),
]
Timeout = Annotated[Duration, Field(gt=0)]
Network = Annotated[
    IPv4Network | IPv6Network,
    PlainValidator(_network),
    PlainSerializer(str, when_used="json"),
    WithJsonSchema({"type": "string", "examples": ["10.0.0.0/8", "::1"]}),
]
Mode = Annotated[
    str,
    PlainValidator(_mode),
    WithJsonSchema({"type": "string", "examples": ["0660", "0600"]}),
]
Instant = Annotated[
    datetime,
    PlainValidator(_instant),
    PlainSerializer(_written_instant, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
