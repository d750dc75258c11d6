"""What is mounted where this process sees it."""

import re

from gateway.domain.errors import Unavailable

_ESCAPED = re.compile(rb"\\([0-7]{3})")
_MOUNT_POINT = 4  # the field of /proc/self/mountinfo


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
