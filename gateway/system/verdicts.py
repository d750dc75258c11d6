"""What an errno of the kernel means to a client."""

import errno
from collections.abc import Callable
from functools import partial
from typing import Final

from gateway.domain.errors import (
    LINK_LEAVES,
    GatewayError,
    NotADirectory,
    NotAFile,
    NotReadable,
    PathNotFound,
    PathRefused,
    Unavailable,
)

MOUNT_LEAVES: Final = "invalid path: mount point leaves the workspace"

_missing = partial(PathNotFound, "file not found")
_unreadable = partial(NotReadable, "file not readable")

VERDICTS: Final[dict[int, Callable[[], GatewayError]]] = {
    errno.ENOENT: _missing,
    errno.ENAMETOOLONG: _missing,
    errno.EINVAL: _missing,  # a name the file system cannot hold, as EILSEQ
    errno.EILSEQ: _missing,
    errno.ELOOP: partial(PathRefused, LINK_LEAVES),
    errno.EXDEV: partial(PathRefused, MOUNT_LEAVES),
    errno.ENOTDIR: partial(NotADirectory, "not a directory"),
    errno.EISDIR: partial(NotAFile, "not a file"),
    errno.EACCES: _unreadable,
    errno.EPERM: _unreadable,
    errno.EWOULDBLOCK: _unreadable,  # a write lease: its holder could make an open wait for 45 s
}


def verdict(exc: OSError) -> GatewayError:
    """The verdict for a failed call; what is not in the table says nothing about the path."""
    known = VERDICTS.get(exc.errno or 0)
    return known() if known else Unavailable("the workspace cannot be read")
