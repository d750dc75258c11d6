"""Chooses how paths are resolved here, and opens what a path resolves to."""

import os
from collections.abc import Callable, Sequence
from stat import S_ISDIR, S_ISREG
from typing import Literal, Protocol

from gateway.domain.errors import GatewayError, NotADirectory, NotAFile, NotReadable, Unavailable
from gateway.system.components import Components, device_id, mount_id
from gateway.system.openat2 import Openat2, kernel_has_openat2
from gateway.system.verdicts import verdict

Wish = Literal["auto", "openat2", "components"]

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class Resolver(Protocol):
    """Finds what lies at a path below a directory, and never anything else."""

    name: str

    def resolve(self, root: int, parts: Sequence[bytes]) -> int:
        """Return an `O_PATH` descriptor; raise OSError, or `PathRefused` for what leaves."""

    def follow(self, root: int, parts: Sequence[bytes]) -> int:
        """As `resolve`, for less work: what leaves may be any OSError."""

    def enter(self, directory: int, name: bytes) -> int:
        """Open a directory in *directory* for reading; a link or a mount point is an OSError."""


def choose(wish: Wish, prefix: str | None) -> Resolver:
    """Return the resolver that works here; raise `Unavailable` if the wished one does not."""
    try:
        here = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _require_proc(here)
            components = Components(prefix, _mount_teller(here))
            if wish == "components":
                return components
            if kernel_has_openat2(here):
                return Openat2(components)
        finally:
            os.close(here)
    except OSError as exc:
        # Never the weaker choice because of a passing lack of descriptors or memory.
        raise Unavailable(f"resolver: cannot be chosen now: {exc.strerror}") from exc
    if wish == "openat2":
        raise Unavailable(
            "resolver: openat2 is not available (Linux before 5.6, or a sandbox forbids it);"
            " use 'auto' or 'components'"
        )
    return components


def open_file(resolver: Resolver, root: int, parts: Sequence[bytes]) -> tuple[int, os.stat_result]:
    """Open a regular file for reading; raise its verdict if that cannot be done."""
    try:
        found = resolver.resolve(root, parts)
        try:
            return reopen(found)
        finally:
            os.close(found)
    except OSError as exc:
        raise verdict(exc) from exc


def reopen(found: int) -> tuple[int, os.stat_result]:
    """Open the regular file behind an `O_PATH` descriptor; nothing else is ever opened."""
    mode = os.fstat(found).st_mode
    if not S_ISREG(mode):
        raise _not_regular(mode)
    fd = os.open(b"/proc/self/fd/%d" % found, _READ)
    try:
        return fd, os.fstat(fd)
    except OSError:
        os.close(fd)
        raise


def open_directory(resolver: Resolver, root: int, parts: Sequence[bytes]) -> int:
    """Open a directory for reading; raise its verdict if that cannot be done."""
    try:
        found = resolver.resolve(root, parts)
        try:
            mode = os.fstat(found).st_mode
            if S_ISREG(mode):
                raise NotADirectory("not a directory")
            if not S_ISDIR(mode):
                raise NotReadable("file not readable")
            return os.open(b"/proc/self/fd/%d" % found, _READ | os.O_DIRECTORY)
        finally:
            os.close(found)
    except OSError as exc:
        raise verdict(exc) from exc


def _not_regular(mode: int) -> GatewayError:
    return NotAFile("not a file") if S_ISDIR(mode) else NotReadable("file not readable")


def _require_proc(here: int) -> None:
    try:
        if os.path.samestat(os.stat(b"/proc/self/fd/%d" % here), os.fstat(here)):
            return
    except OSError as exc:
        raise Unavailable("/proc is not mounted, and files are opened by /proc/self/fd") from exc
    raise Unavailable("/proc/self/fd does not lead to this process' files")


def _mount_teller(here: int) -> Callable[[int], int]:
    try:
        mount_id(here)
    except (FileNotFoundError, LookupError):  # gVisor's fdinfo has no such line
        return device_id
    return mount_id
