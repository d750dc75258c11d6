"""Tells systemd how far the service is (sd_notify(3)); silent where there is no systemd."""

import os
import socket
import time

import structlog

log = structlog.get_logger()

_TIMEOUT_S = 1.0


def ready() -> None:
    """It serves, or serves again after a reload."""
    _notify("READY=1")


def reloading() -> None:
    """A reload has begun; `ready` or `refused` has to follow."""
    now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    _notify(f"RELOADING=1\nMONOTONIC_USEC={now_us}")


def refused() -> None:
    """It serves as before: systemd knows no reload that failed."""
    _notify("READY=1")


def stopping() -> None:
    """It is on its way out."""
    _notify("STOPPING=1")


def _notify(state: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # an abstract name
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(_TIMEOUT_S)
            sock.connect(address)
            sock.send(state.encode())
    except OSError as exc:
        log.warning("systemd_not_told", state=state.partition("\n")[0], error=exc.strerror)
