"""Whether a conditional request applies, with the tags and dates it compares (RFC 9110)."""

import hashlib
import math
import re
from datetime import UTC, datetime
from enum import Enum

from multidict import MultiMapping

_FIELDS = ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since")
_PLAIN_VERSION = re.compile(r"[A-Za-z0-9._:+=-]{1,128}")

_TAG = r'(?:W/)?"[^"\x00-\x20\x7f]*"'
_ONE_TAG = re.compile(_TAG)
_MEMBER = re.compile(rf"[ \t,]*({_TAG})[ \t]*(?=,|\Z)")

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LONG_DAY = r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})"
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-5][0-9]|60)"
_DATES = (
    re.compile(rf"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT"),
    re.compile(rf"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"),
    re.compile(rf"{_DAY} {_MONTH} (?P<day>[ 0-9][0-9]) {_TIME} (?P<year>[0-9]{{4}})"),
)


class Outcome(Enum):
    """What the preconditions of a request come to."""

    PROCEED = "proceed"
    NOT_MODIFIED = "not modified"
    PRECONDITION_FAILED = "precondition failed"


def etag_of(version: str) -> str:
    """The strong entity tag of a version (RFC 9110 section 8.8.3); other versions, other tags."""
    if _PLAIN_VERSION.fullmatch(version) is None:
        # A version is a remote executor's word: it may hold quotes, line ends, a megabyte.
        version = hashlib.sha256(version.encode("utf-8", "surrogatepass")).hexdigest()
    return f'"{version}"'


def evaluate(
    method: str, headers: MultiMapping[str], etag: str | None, modified_at_s: int | None
) -> Outcome:
    """Judge the preconditions in the order of RFC 9110 section 13.2.2.

    A date that is none is ignored, every date is where *modified_at_s* is unknown; a list of tags
    that is none matches nothing, and no list but `*` matches where there is no *etag*.
    """
    if not any(map(headers.__contains__, _FIELDS)):
        return Outcome.PROCEED
    reads = method in ("GET", "HEAD")
    if (wanted := _field(headers, "If-Match")) is not None:
        if not _matches(wanted, etag, weak=False):
            return Outcome.PRECONDITION_FAILED
    elif modified_at_s is None:
        pass
    elif modified_at_s > _date(headers, "If-Unmodified-Since", math.inf):
        return Outcome.PRECONDITION_FAILED
    if (held := _field(headers, "If-None-Match")) is not None:
        if _matches(held, etag, weak=True):
            return Outcome.NOT_MODIFIED if reads else Outcome.PRECONDITION_FAILED
    elif modified_at_s is None:
        pass
    elif reads and modified_at_s <= _date(headers, "If-Modified-Since", -math.inf):
        return Outcome.NOT_MODIFIED
    return Outcome.PROCEED


def range_applies(
    headers: MultiMapping[str], etag: str | None, modified_at_s: int | None, now_s: int
) -> bool:
    """Whether `If-Range` is absent or names exactly this version (RFC 9110 section 13.1.5)."""
    value = _field(headers, "If-Range")
    if value is None:
        return True
    if _ONE_TAG.fullmatch(value):
        return _matches(value, etag, weak=False)
    # Section 8.8.2.2: a date is a strong validator only if the file cannot change again within
    # the second it names. While that second lasts, it can.
    return modified_at_s is not None and parse_date(value) == modified_at_s < now_s


def parse_date(text: str) -> int | None:
    """Seconds since 1970 of an HTTP date in any of the three forms of RFC 9110 section 5.6.7."""
    found = next(filter(None, (form.fullmatch(text) for form in _DATES)), None)
    if found is None:
        return None
    second = int(found["second"])
    try:
        moment = datetime(
            _full_year(found["year"]),
            _MONTHS.index(found["month"]) + 1,
            int(found["day"]),
            int(found["hour"]),
            int(found["minute"]),
            min(second, 59),
            tzinfo=UTC,
        )
    except ValueError:
        return None
    return int(moment.timestamp()) + (second == 60)


def _full_year(digits: str) -> int:
    if len(digits) == 4:
        return int(digits)
    # Section 5.6.7: a year that seems more than 50 years ahead is the latest such year gone by.
    now = datetime.now(UTC).year
    year = now - now % 100 + int(digits)
    return year - 100 if year > now + 50 else year


def _date(headers: MultiMapping[str], name: str, otherwise: float) -> float:
    value = _field(headers, name)
    moment = None if value is None else parse_date(value)
    return otherwise if moment is None else moment


def _field(headers: MultiMapping[str], name: str) -> str | None:
    # Section 5.3: several lines of one name are one list.
    lines = headers.getall(name, None)
    return None if lines is None else ", ".join(lines).strip(" \t")


def _matches(value: str, etag: str | None, *, weak: bool) -> bool:
    """Whether *value*, `*` or a list of tags, names *etag* (RFC 9110 section 8.8.3.2)."""
    if value == "*":
        return True
    if etag is None:
        return False
    if weak:
        return etag.removeprefix("W/") in {tag.removeprefix("W/") for tag in _tags(value)}
    return not etag.startswith("W/") and etag in _tags(value)


def _tags(value: str) -> list[str]:
    tags = []
    position = 0
    # A comma may be part of a tag, so members are matched, not split.
    while found := _MEMBER.match(value, position):
        tags.append(found[1])
        position = found.end()
    return [] if value[position:].strip(" \t,") else tags
