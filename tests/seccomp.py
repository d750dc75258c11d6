"""Forbids system calls, as the seccomp profile of a sandbox or of a unit does."""

import ctypes
import struct

OPENAT2 = 437
FACCESSAT2 = 439
IO_URING_SETUP = 425

_NO_NEW_PRIVILEGES = 38
_SECCOMP, _FILTER = 22, 2
# Load the call's number, compare it, return an error or let it be: linux/filter.h, linux/seccomp.h.
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ERROR, _ALLOWED = 0x50000, 0x7FFF0000


def deny(call: int, error: int) -> bool:
    """Have *call* fail with *error* in this thread and all that it starts; False: that can't be."""
    code = [(_LOAD, 0, 0, 0), (_EQUAL, 0, 1, call), (_RETURN, 0, 0, _ERROR | error)]
    code.append((_RETURN, 0, 0, _ALLOWED))
    lines = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
    program = struct.pack("HxxxxxxP", len(code), ctypes.addressof(lines))
    libc = ctypes.CDLL(None)
    if libc.prctl(_SECCOMP, _FILTER, program) == 0:
        return True
    # Who is not root may do so only without a way to become it.
    return bool(
        libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
        and libc.prctl(_SECCOMP, _FILTER, program) == 0
    )
