"""How domain values are written into columns, and read back."""

from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.domain.errors import BadParameter

LONGEST_NAME: Final = 512
"""Bytes of a text that is in an index; PostgreSQL takes three of them into one."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def moment(at: datetime) -> int:
    """Microseconds since 1970."""
    return (at - _EPOCH) // _MICROSECOND


def optional_moment(at: datetime | None) -> int | None:
    """As `moment`, if there is one."""
    return None if at is None else moment(at)


def datetime_of(micros: int) -> datetime:
    """The inverse of `moment`."""
    return _EPOCH + micros * _MICROSECOND


def optional_datetime(micros: int | None) -> datetime | None:
    """The inverse of `optional_moment`."""
    return None if micros is None else datetime_of(micros)


def is_storable(text: str) -> bool:
    """Whether every database can hold *text*: PostgreSQL takes no NUL, UTF-8 no surrogate."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def checked(**texts: str | None) -> None:
    """Raise `BadParameter` for the first of *texts* that no database could hold."""
    for name, text in texts.items():
        if text is not None and not is_storable(text):
            raise BadParameter(f"{name}: must not hold a NUL character or half a surrogate pair")


def checked_names(**texts: str | None) -> None:
    """As `checked`, for texts that are in an index and so must be short, too."""
    checked(**texts)
    for name, text in texts.items():
        if text is not None and len(text.encode()) > LONGEST_NAME:
            raise BadParameter(f"{name}: must not be longer than {LONGEST_NAME} bytes")
