"""What is mounted where this process sees it."""

import os
import re
from functools import lru_cache

from gateway.domain.errors import Unavailable

_ESCAPED = re.compile(rb"\\([0-7]{3})")
_DEVICE, _MOUNT_POINT = 2, 4  # fields of /proc/self/mountinfo
_IN_MEMORY = (b"tmpfs", b"ramfs")


def mounted_names() -> frozenset[bytes]:
    """The last parts of the paths of all mount points; raise `Unavailable` if they are not told."""
    try:
        with open("/proc/self/mountinfo", "rb") as table:
            points = [line.split(b" ")[_MOUNT_POINT] for line in table]
    except OSError as exc:
        raise Unavailable("the mount points cannot be read") from exc
    return frozenset(
        _ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), point.rpartition(b"/")[2])
        for point in points
    )


@lru_cache(64)
def is_in_memory(device: int) -> bool:
    """Whether files of that `st_dev` are never anywhere else; False if that is not told."""
    number = b"%d:%d" % (os.major(device), os.minor(device))
    try:
        with open("/proc/self/mountinfo", "rb") as table:
            lines = [line.partition(b" - ") for line in table]
    except OSError:
        return False
    return any(
        about.split(b" ")[_DEVICE] == number and system.split(b" ")[0] in _IN_MEMORY
        for about, _, system in lines
    )
