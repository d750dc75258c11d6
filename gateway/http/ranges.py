"""Which bytes a `Range` header asks for, and how several of them travel in one body."""

import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

MOST_RANGES = 50
_SPEC = re.compile(r"([0-9]*)-([0-9]*)")
_BEYOND = 10**19  # more than any file holds


class Unsatisfiable(Exception):
    """The header is well-formed, but none of its ranges lies in a file of *size* bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(f"no range can be satisfied by {size} bytes")
        self.size = size


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes from position *first* to *last*, both included; never empty."""

    first: int
    last: int

    @property
    def length(self) -> int:
        """How many bytes these are."""
        return self.last - self.first + 1

    def content_range(self, size: int) -> str:
        """The `Content-Range` of these bytes in a file of *size* bytes (RFC 9110 section 14.4)."""
        return f"bytes {self.first}-{self.last}/{size}"


def parse_range(header: str | None, size: int) -> list[ByteRange] | None:
    """Return the satisfiable ranges in the order asked for, or None to serve the whole file.

    None is the answer to no header, another unit, bad syntax and abuse; raise `Unsatisfiable` if
    no range can be satisfied (RFC 9110 sections 14.1.2 and 14.2).
    """
    specs = _specs(header)
    if specs is None:
        return None
    ranges: list[ByteRange] = []
    suffix = False
    for first_digits, last_digits in specs:
        if not first_digits:
            count = _number(last_digits)
            suffix = suffix or count > 0
            first, last = max(size - count, 0), size - 1
        else:
            first = _number(first_digits)
            last = _number(last_digits) if last_digits else _BEYOND
            if last < first:
                return None
        if first < size:
            ranges.append(ByteRange(first, min(last, size - 1)))
    if ranges:
        return None if _abusive(ranges, size) else ranges
    if suffix:
        # Section 14.1.2: a suffix is satisfiable even by an empty file. No Content-Range can say
        # "no bytes", so section 14.2's leave to ignore Range for an empty file is taken.
        return None
    raise Unsatisfiable(size)


def asks_for_part(header: str) -> bool:
    """Whether *header* is well-formed, in bytes, and not simply from the first one to the end."""
    return _specs(header) not in (None, [("0", "")])


def _specs(header: str | None) -> list[tuple[str, str]] | None:
    unit, equals, listed = (header or "").strip(" \t").partition("=")
    if unit.lower() != "bytes" or not equals or listed.count(",") >= MOST_RANGES:
        return None
    specs = []
    for member in listed.split(","):
        text = member.strip(" \t")
        if not text:
            continue  # section 5.6.1.2: empty list members are ignored
        found = _SPEC.fullmatch(text)
        if found is None or text == "-":
            return None
        specs.append((found[1], found[2]))
    return specs or None


def _number(digits: str) -> int:
    # int() refuses more than 4300 digits; what is beyond every file is as good as any such number.
    significant = digits.lstrip("0")
    return int(significant or "0") if len(significant) < 20 else _BEYOND


def _abusive(ranges: Sequence[ByteRange], size: int) -> bool:
    # CVE-2011-3192: a short header of overlapping ranges made servers send and hold many times
    # the file. RFC 9110 section 14.2 lets a server ignore more than two overlapping ranges.
    if sum(part.length for part in ranges) > size:
        return True
    overlaps, end = 0, -1
    for part in sorted(ranges, key=lambda part: part.first):
        overlaps += part.first <= end
        end = max(end, part.last)
    return overlaps > 1


@dataclass(frozen=True, slots=True)
class Multipart:
    """Several ranges of one file as a `multipart/byteranges` body (RFC 9110 section 14.6)."""

    ranges: Sequence[ByteRange]
    size: int
    part_type: str
    boundary: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def content_type(self) -> str:
        """The `Content-Type` of the whole body."""
        return f"multipart/byteranges; boundary={self.boundary}"

    @property
    def length(self) -> int:
        """The exact number of bytes of the whole body."""
        return sum(len(head) + part.length for head, part in self.parts()) + len(self.tail)

    @property
    def tail(self) -> bytes:
        """What follows the bytes of the last range."""
        return f"\r\n--{self.boundary}--\r\n".encode("ascii")

    def parts(self) -> Iterator[tuple[bytes, ByteRange]]:
        """Yield what precedes the bytes of each range, and the range."""
        lead = ""
        for part in self.ranges:
            head = (
                f"{lead}--{self.boundary}\r\nContent-Type: {self.part_type}\r\n"
                f"Content-Range: {part.content_range(self.size)}\r\n\r\n"
            )
            yield head.encode("ascii"), part
            lead = "\r\n"
