"""The resolver for Linux 5.6 and later: one system call that cannot leave the directory."""

import ctypes
import errno
import os
from collections.abc import Sequence

from gateway.domain.paths import LONGEST_PATH
from gateway.system.components import Components

_ATTEMPTS = 16  # a rename anywhere on the system can make a `..` step say EAGAIN

# include/uapi/linux/openat2.h
_NO_XDEV = 0x01
_NO_MAGICLINKS = 0x02
_NO_SYMLINKS = 0x04
_BENEATH = 0x08
_CACHED = 0x20


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


_INSIDE = _BENEATH | _NO_MAGICLINKS | _NO_XDEV
_STEP = os.O_PATH | os.O_CLOEXEC

# As C values already: to convert them in every call takes a fifth of its time.
_OPENAT2 = ctypes.c_long(437)  # one number on every architecture but Alpha
_SIZE = ctypes.c_size_t(ctypes.sizeof(_OpenHow))
_RESOLVE = ctypes.byref(_OpenHow(_STEP, 0, _INSIDE))
_ENTER = ctypes.byref(
    _OpenHow(os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, 0, _INSIDE | _NO_SYMLINKS)
)
_RESOLVE_CACHED = ctypes.byref(_OpenHow(_STEP, 0, _INSIDE | _CACHED))
_ENTER_CACHED = ctypes.byref(_OpenHow(_STEP | os.O_DIRECTORY, 0, _INSIDE | _NO_SYMLINKS | _CACHED))

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long

# A lookup that cannot sleep need not let go of the GIL, and then need not wait to get it back.
_syscall_holding_gil = ctypes.PyDLL(None).syscall
_syscall_holding_gil.restype = ctypes.c_long


class Openat2:
    """Resolves with `RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV`.

    What the kernel refuses or cannot decide is left to *components*: it knows the sandbox prefix,
    says whether a link or a mount is in the way, and takes paths beyond PATH_MAX.
    """

    name = "openat2"

    def __init__(self, components: Components) -> None:
        self._components = components

    def resolve(self, root: int, parts: Sequence[bytes]) -> int:
        """Return an `O_PATH` descriptor; raise OSError, or `PathRefused` for what leaves."""
        try:
            return self.follow(root, parts)
        except OSError as exc:
            if exc.errno != errno.EXDEV:
                raise
        return self._components.resolve(root, parts)

    def follow(self, root: int, parts: Sequence[bytes]) -> int:
        """As `resolve`, but what leaves may be EXDEV as well, be it by a link or a mount."""
        raw = b"/".join(parts) or b"."
        if len(raw) <= LONGEST_PATH:
            for _ in range(_ATTEMPTS):
                fd: int = _syscall(_OPENAT2, root, raw, _RESOLVE, _SIZE)
                if fd >= 0:
                    return fd
                code = ctypes.get_errno()
                if code == errno.EXDEV and self._components.has_prefix:
                    break
                if code not in (errno.EAGAIN, errno.EINTR):
                    raise OSError(code, os.strerror(code))
        return self._components.resolve(root, parts)

    def enter(self, directory: int, name: bytes) -> int:
        """Open a directory in *directory* for reading; a link or a mount point is an OSError."""
        for _ in range(_ATTEMPTS):
            fd: int = _syscall(_OPENAT2, directory, name, _ENTER, _SIZE)
            if fd >= 0:
                return fd
            code = ctypes.get_errno()
            if code not in (errno.EAGAIN, errno.EINTR):
                raise OSError(code, os.strerror(code))
        return self._components.enter(directory, name)


def resolve_cached(root: int, raw: bytes) -> int:
    """What `Openat2.resolve` returns if memory alone can tell, and a negative number if not."""
    fd: int = _syscall_holding_gil(_OPENAT2, root, raw, _RESOLVE_CACHED, _SIZE)
    return fd


def enter_cached(directory: int, name: bytes) -> int:
    """An `O_PATH` descriptor of a directory on the same mount, or a negative number."""
    fd: int = _syscall_holding_gil(_OPENAT2, directory, name, _ENTER_CACHED, _SIZE)
    return fd


def kernel_has_openat2(directory: int) -> bool:
    """Whether the call exists and nothing (gVisor, an old seccomp profile) forbids it.

    Raises OSError if that cannot be found out now: too many open files, for one.
    """
    fd: int = _syscall(_OPENAT2, directory, b".", _RESOLVE, _SIZE)
    if fd >= 0:
        os.close(fd)
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EPERM, errno.EACCES):
        return False
    raise OSError(code, os.strerror(code))
