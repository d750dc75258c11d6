"""Parts of a file by HTTP range (RFC 9110 section 14), the asking side."""

import re
from collections.abc import Sequence

from gateway.domain.errors import ProtocolFault

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})")


def range_header(first: int, count: int | None) -> str | None:
    """The value of `Range` for *count* bytes from *first*; None for the whole file."""
    if count is None:
        return f"bytes={first}-" if first else None
    return f"bytes={first}-{first + max(count, 1) - 1}"


def part_of(told: Sequence[str], asked: int, length: int | None) -> tuple[int, int]:
    """Where the part of a 206 begins, and the size of the file; raise `ProtocolFault`.

    It must be the part that was asked for, whose first byte is at *asked*, and as long as its
    body.
    """
    parts = _CONTENT_RANGE.fullmatch(told[0]) if len(told) == 1 else None
    if parts is not None:
        first, last, size = map(int, parts.groups())
        if first == asked and first <= last < size and length in (None, last - first + 1):
            return first, size
    raise ProtocolFault("the executor sent another part than was asked for")
