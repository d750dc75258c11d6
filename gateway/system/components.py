"""The resolver for kernels without openat2: one component at a time, never through a link."""

import errno
import os
import re
from collections import deque
from collections.abc import Callable, Sequence
from stat import S_ISLNK

from gateway.domain.errors import LINK_LEAVES, PathRefused

MOST_LINKS = 40  # as many as Linux follows
_MOST_STEPS = 4_096  # beside the path's own: 50 ms; forty texts of 2,047 names would take minutes
_KEPT_OPEN = 32  # a link's text may name 2,047 directories, and a process may have 1,024 files

_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_MOUNT_ID = re.compile(rb"^mnt_id:\s*(\d+)$", re.MULTILINE)


def mount_id(fd: int) -> int:
    """The id of the mount that *fd* lies on; raise LookupError where the kernel does not say."""
    info = os.open(b"/proc/self/fdinfo/%d" % fd, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = _MOUNT_ID.search(os.read(info, 1024))
    finally:
        os.close(info)
    if found is None:
        raise LookupError("no mnt_id in /proc/self/fdinfo")
    return int(found[1])


def device_id(fd: int) -> int:
    """The next best thing to `mount_id`: blind to bind mounts of the same file system."""
    return os.fstat(fd).st_dev


class Components:
    """Resolves below a directory with `O_PATH | O_NOFOLLOW` steps.

    *mount_of* tells mounts apart; absolute links below *prefix* are taken from the root.
    """

    name = "components"

    def __init__(self, prefix: str | None, mount_of: Callable[[int], int]) -> None:
        self._prefix = None if prefix is None else _split(os.fsencode(prefix))
        self._mount_of = mount_of

    def resolve(self, root: int, parts: Sequence[bytes]) -> int:
        """Return an `O_PATH` descriptor; raise OSError, or `PathRefused` for what leaves."""
        trail = _Trail(root, self._mount_of, len(parts) + _MOST_STEPS)
        try:
            self._follow(trail, parts)
            return trail.take()
        finally:
            trail.close()

    follow = resolve

    @property
    def has_prefix(self) -> bool:
        """Whether an absolute link may lead inside."""
        return self._prefix is not None

    def enter(self, directory: int, name: bytes) -> int:
        """Open a directory in *directory* for reading; a link or a mount point is an OSError."""
        fd = os.open(name, _STEP | os.O_DIRECTORY, dir_fd=directory)
        try:
            if self._mount_of(fd) != self._mount_of(directory):
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            return os.open(b"/proc/self/fd/%d" % fd, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        finally:
            os.close(fd)

    def _follow(self, trail: "_Trail", parts: Sequence[bytes]) -> None:
        pending = list(reversed(parts))
        links = 0
        while pending:
            name = pending.pop()
            if name == b".":
                trail.stay()
                continue
            if name == b"..":
                trail.up()
                continue
            text = trail.down(name)
            if text is None:
                continue
            links += 1
            if links > MOST_LINKS:
                raise PathRefused(LINK_LEAVES)
            pending.extend(reversed(self._relative(text, trail)))

    def _relative(self, text: bytes, trail: "_Trail") -> list[bytes]:
        steps = _split(text)
        if text.endswith(b"/"):
            steps.append(b".")
        if not text.startswith(b"/"):
            return steps
        prefix = self._prefix
        if prefix is None or steps[: len(prefix)] != prefix:
            raise PathRefused(LINK_LEAVES)
        trail.close()
        return steps[len(prefix) :]


class _Trail:
    """The way from the root to where a lookup stands, so that `..` never asks the file system.

    After *most_steps*, those that are taken again included, it refuses to go on.
    """

    def __init__(self, root: int, mount_of: Callable[[int], int], most_steps: int) -> None:
        self._root = root
        self._steps_left = most_steps
        self._mount_of = mount_of
        self._mount = mount_of(root)
        self._names: list[bytes] = []
        self._open: deque[int] = deque()  # the last of the names

    @property
    def fd(self) -> int:
        return self._open[-1] if self._open else self._root

    def down(self, name: bytes) -> bytes | None:
        """Step to *name*; if that is a link, stay and return its text."""
        self._count()
        fd = os.open(name, _STEP, dir_fd=self.fd)
        try:
            self._require_same_mount(fd)
            text = os.readlink(b"", dir_fd=fd) if S_ISLNK(os.fstat(fd).st_mode) else None
        except BaseException:
            os.close(fd)
            raise
        if text is not None:
            os.close(fd)
            return text
        self._names.append(name)
        self._open.append(fd)
        if len(self._open) > _KEPT_OPEN:
            os.close(self._open.popleft())
        return None

    def stay(self) -> None:
        """Raise OSError if this is no directory, or not searchable."""
        self._count()
        os.stat(b".", dir_fd=self.fd)

    def up(self) -> None:
        """Step back; raise `PathRefused` at the root."""
        self.stay()
        if not self._names:
            raise PathRefused(LINK_LEAVES)
        self._names.pop()
        os.close(self._open.pop())
        if self._names and not self._open:
            self._walk_again()

    def take(self) -> int:
        """Give away the descriptor of where the trail has come to."""
        return self._open.pop() if self._open else os.dup(self._root)

    def close(self) -> None:
        """Go back to the root."""
        self._names.clear()
        while self._open:
            os.close(self._open.pop())

    def _count(self) -> None:
        if not self._steps_left:
            raise PathRefused(LINK_LEAVES)
        self._steps_left -= 1

    def _require_same_mount(self, fd: int) -> None:
        if self._mount_of(fd) != self._mount:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    def _walk_again(self) -> None:
        names, self._names = self._names, []
        for name in names:
            if self.down(name) is not None:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))  # replaced meanwhile


def _split(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part]
