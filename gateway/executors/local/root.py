"""The directory whose children are the workspaces, also when it is replaced while we run."""

import ctypes
import os
from contextlib import suppress
from functools import lru_cache
from stat import S_ISDIR

from gateway.domain.errors import AlreadyExists, SessionNotFound, Unavailable

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC

# include/uapi/linux/magic.h, and the out-of-tree ones: nothing here waits for another machine.
_LOCAL_FILE_SYSTEMS = frozenset(
    {
        0x0000EF53,  # ext2, ext3, ext4
        0x01021994,  # tmpfs
        0x2FC12FC1,  # zfs
        0x58465342,  # xfs
        0x794C7630,  # overlayfs
        0x858458F6,  # ramfs
        0x9123683E,  # btrfs
        0xCA451A4E,  # bcachefs
        0xF2F52010,  # f2fs
    }
)

_fstatfs = ctypes.CDLL(None).fstatfs
_fstatfs.argtypes = (ctypes.c_int, ctypes.c_void_p)


class OpenRoot:
    """An open root; its descriptor is closed when the last thread that uses it lets go."""

    __slots__ = ("fd", "identity", "is_local")

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, _DIRECTORY)
        found = os.fstat(self.fd)
        self.identity = (found.st_dev, found.st_ino)
        self.is_local = _file_system(self.fd) in _LOCAL_FILE_SYSTEMS

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            os.close(self.fd)


class Root:
    """Opens sessions below the directory at *path*."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self.last: OpenRoot | None = None

    def current(self) -> OpenRoot:
        """The root that is at the path now; raise `Unavailable` if there is none."""
        try:
            found = os.stat(self.path)
            # The descriptor keeps its inode number from being given to another directory.
            root = self.last
            if root is None or root.identity != (found.st_dev, found.st_ino):
                root = self.last = OpenRoot(self.path)
            os.stat(b".", dir_fd=root.fd)
        except OSError as exc:
            raise Unavailable("the workspace root cannot be read") from exc
        return root

    def open_session(self, workspace: str) -> int:
        """Return an `O_PATH` descriptor of the workspace's directory.

        A link is not a workspace; a mount point may be one. Raises `SessionNotFound`.
        """
        root = self.current()
        try:
            return os.open(session_name(workspace), _DIRECTORY | os.O_NOFOLLOW, dir_fd=root.fd)
        except (FileNotFoundError, NotADirectoryError):
            raise SessionNotFound("session not found") from None
        except OSError as exc:
            raise Unavailable("the workspace root cannot be read") from exc

    def make_session(self, workspace: str) -> None:
        """Make the workspace's directory, for our own user only; one that was made is left alone.

        Raises `AlreadyExists` if anything else has its name: a link, a file, another user's.
        """
        root, name = self.current(), session_name(workspace)
        try:
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=root.fd)
            found = os.stat(name, dir_fd=root.fd, follow_symlinks=False)
        except OSError as exc:
            raise Unavailable("the workspace cannot be made") from exc
        if not S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise AlreadyExists("session: something else is where its workspace would be")


def located(root: OpenRoot, session: bytes, fd: int) -> bytes | None:
    """The path of the open file below *root*, if it has one there and it leads into *session*."""
    try:
        base = os.readlink(b"/proc/self/fd/%d" % root.fd).rstrip(b"/") + b"/"
        path = os.readlink(b"/proc/self/fd/%d" % fd)
        if not path.startswith(base + session + b"/"):
            return None
        below = path[len(base) :]
        # It may have been removed or renamed meanwhile, which the kernel says as part of the path.
        found = os.stat(below, dir_fd=root.fd, follow_symlinks=False)
        return below if os.path.samestat(found, os.fstat(fd)) else None
    except OSError:
        return None


@lru_cache(4096)
def session_name(workspace: str) -> bytes:
    """The one directory name that *workspace* stands for; raise `SessionNotFound` if none."""
    try:
        name = os.fsencode(workspace)
    except UnicodeEncodeError:
        raise SessionNotFound("session not found") from None
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name or len(name) > 255:
        raise SessionNotFound("session not found")
    return name


def _file_system(fd: int) -> int:
    answer = (ctypes.c_long * 64)()  # struct statfs begins with the type and has at most 120 bytes
    if _fstatfs(fd, ctypes.byref(answer)) != 0:
        return 0
    return answer[0] & 0xFFFFFFFF
