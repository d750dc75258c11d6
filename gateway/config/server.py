"""How the gateway listens, as its config says."""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from gateway.config.section import Section, Text
from gateway.config.units import Duration, Mode, Network, Size, Timeout

Port = Annotated[int, Field(ge=0, le=65535)]
_LONGEST_SOCKET_PATH = 107  # bytes that fit into sun_path with the NUL behind them
PublicUrl = Annotated[
    str,
    StringConstraints(
        pattern=r"^https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*$"
    ),
]


def _socket_path(path: str) -> str:
    if len(path.encode("utf-8", "surrogateescape")) > _LONGEST_SOCKET_PATH:
        raise PydanticCustomError("socket_path", "must have at most 107 bytes (unix(7))")
    if "\0" in path:
        raise PydanticCustomError("socket_path", "must not contain a NUL character")
    return path


class Admin(Section):
    """The listener for metrics and health."""

    host: Text = "127.0.0.1"
    port: Port = 9090


class Offload(Section):
    """The proxy in front sends files by itself."""

    prefix: Annotated[str, StringConstraints(pattern=r"^/([A-Za-z0-9_-]+/)+$")]


class Server(Section):
    """How the gateway listens, and how long it waits for whom."""

    host: Text = "127.0.0.1"
    port: Port = 8080
    socket: Annotated[Text, AfterValidator(_socket_path)] | None = None
    socket_mode: Mode = "0660"
    workers: int = Field(default=1, ge=1)
    public_url: PublicUrl | None = None
    trusted_proxies: tuple[Network, ...] = ()
    offload: Offload | None = None
    admin: Admin | None = None
    header_timeout: Timeout = 10.0
    keepalive_timeout: Timeout = 75.0
    idle_timeout: Timeout = 60.0
    min_rate: Size = 1024
    grace: Duration = 2.0
    drain: Duration = 60.0
