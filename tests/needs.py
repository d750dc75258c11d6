"""What a test needs of the machine: skipped where it is missing, a failure where CI promises it."""

import os
import shutil
from pathlib import Path

import pytest

from gateway.system.openat2 import kernel_has_openat2

_BACKENDS = Path(__file__).parent.parent / ".backends"


def root() -> None:
    """The test makes device nodes or mounts, or becomes another user."""
    if os.geteuid() != 0:
        missing("needs root")


def program(name: str) -> str:
    """The test runs *name*; returns where it is."""
    found = shutil.which(name)
    if found is None:
        missing(f"needs the program {name}")
    return found


def openat2() -> None:
    """The test forces the resolver that is the kernel's own."""
    here = os.open("/", os.O_PATH)
    try:
        if not kernel_has_openat2(here):
            missing("needs a kernel with openat2")
    finally:
        os.close(here)


def backend(path: str) -> str:
    """The test talks to the program at *path* below `.backends`; returns where it is."""
    if not has_backend(path):
        missing(f"needs {path}: make backends")
    return str(_BACKENDS / path)


def has_backend(path: str) -> bool:
    """Whether `make backends` could install the program at *path*."""
    return os.access(_BACKENDS / path, os.X_OK)


def missing(reason: str) -> None:
    """Skip the test, or fail it where the environment variable CI is set."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and CI is set")
    pytest.skip(reason)
