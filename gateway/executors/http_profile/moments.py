"""Times as backends write them, as nanoseconds since 1970."""

import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Final

from gateway.executors.http_profile.profile import TimeFormat

_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:[.,](\d{1,18}))?([Zz]|[+-]\d\d:?\d\d)", re.ASCII
)
_UNIT: Final = {TimeFormat.EPOCH_S: 10**9, TimeFormat.EPOCH_MS: 10**6, TimeFormat.EPOCH_NS: 1}
_FIRST: Final = int(datetime(1, 1, 2, tzinfo=UTC).timestamp()) * 10**9
_LAST: Final = int(datetime(9999, 12, 30, tzinfo=UTC).timestamp()) * 10**9


def moment_ns(value: object, written: TimeFormat) -> int | None:
    """The moment that *value* says, None if that cannot be told.

    It is no reason to doubt the rest of an answer: hostile code may give a file any time, one that
    its sandbox cannot write down included.
    """
    found = _iso(value) if written is TimeFormat.ISO else _epoch(value, _UNIT[written])
    return found if found is not None and _FIRST <= found <= _LAST else None


def _iso(value: object) -> int | None:
    parts = _ISO.fullmatch(value) if isinstance(value, str) else None
    if parts is None:
        return None
    day, time, fraction, zone = parts.groups()
    try:
        whole = datetime.fromisoformat(f"{day}T{time}{zone.upper()}")
        return int(whole.timestamp()) * 10**9 + int((fraction or "").ljust(9, "0")[:9])
    except (ValueError, OverflowError):
        return None


def _epoch(value: object, unit: int) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = str(value)
    if len(text) > 40:
        return None
    try:
        amount = Decimal(text)
    except InvalidOperation:
        return None
    if not amount.is_finite() or amount.adjusted() > 20:
        return None
    return int(amount * unit)
