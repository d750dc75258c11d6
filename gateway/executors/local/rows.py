"""What `stat` says, as the row of a listing."""

import os
from stat import S_ISREG

from gateway.domain.model import Row


def row_of(
    above: tuple[bytes, ...],
    name: bytes,
    found: os.stat_result,
    *,
    is_link: bool = False,
    problem: str | None = None,
    version: int | None = None,
) -> Row:
    """The row of *name* in the directory *above*, if *found* is what lies there."""
    mode = found.st_mode
    size = found.st_size if S_ISREG(mode) else 0
    return above, name, mode, size, found.st_mtime_ns, is_link, problem, version
