"""How a backend is reached over the network: its address, its certificate, its credential."""

import re
import ssl
from typing import Annotated

import aiohttp
from pydantic import AfterValidator, model_validator
from pydantic_core import PydanticCustomError
from yarl import URL

from gateway.config.model import ExecutorConfig
from gateway.config.secret import Secret
from gateway.config.section import Section
from gateway.executors.engines.hybrid_vsock import HybridVsockConnector

_LOCAL = URL("http://localhost")
_VSOCK = "vsock+unix"
_PORT = re.compile(r"port=([1-9][0-9]{0,9})")
_MOST_PORT = 2**32 - 2  # VMADDR_PORT_ANY is one more


def checked_url(text: str) -> str:
    """Return *text* if a backend can be reached there; else raise what pydantic shows."""
    try:
        url = URL(text)
    except ValueError:
        raise PydanticCustomError("url", "is no URL") from None
    if url.user or url.password:
        raise PydanticCustomError("url", "must not hold a credential; there is `token` for that")
    if url.scheme in ("unix", _VSOCK):
        _check_socket(url)
    elif url.scheme not in ("http", "https") or not url.host:
        raise PydanticCustomError(
            "url", "must be http://…, https://…, unix:///… or vsock+unix:///…?port=N"
        )
    elif url.query_string:
        raise PydanticCustomError("url", "must not have a query or a fragment")
    if url.fragment:
        raise PydanticCustomError("url", "must not have a query or a fragment")
    return text


def _check_socket(url: URL) -> None:
    if url.raw_authority or not url.path.startswith("/"):
        raise PydanticCustomError(
            "url", "must name an absolute path: {scheme}:///…", {"scheme": url.scheme}
        )
    if url.scheme == "unix":
        if url.query_string:
            raise PydanticCustomError("url", "must not have a query or a fragment")
    elif _port(url) is None:
        raise PydanticCustomError("url", "must name the guest's port: vsock+unix:///…?port=N")


def _port(url: URL) -> int | None:
    found = _PORT.fullmatch(url.raw_query_string)
    return int(found[1]) if found and int(found[1]) <= _MOST_PORT else None


class Tls(Section):
    """*ca* is a file with the only authorities that are trusted for this backend (PEM)."""

    ca: str

    @model_validator(mode="after")
    def _can_be_loaded(self) -> "Tls":
        try:
            ssl.create_default_context(cafile=self.ca)
        except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
            reason = {"file": self.ca, "reason": getattr(exc, "strerror", None) or "not PEM"}
            raise PydanticCustomError("ca", "cannot load {file}: {reason}", reason) from exc
        return self


class RemoteConfig(ExecutorConfig):
    """An executor whose backend is at *url*; *token* is the gateway's credential there.

    *url* is `http://…`, `https://…`, `unix:///path/to/socket`, or for a port inside a Firecracker
    microVM `vsock+unix:///path/to/v.sock?port=52`, which is the unix socket of its vsock device.
    """

    url: Annotated[str, AfterValidator(checked_url)]
    token: Secret | None = None
    tls: Tls | None = None


def connector(config: RemoteConfig) -> tuple[URL, aiohttp.BaseConnector]:
    """The base of the backend's URLs, and what makes the connections to it."""
    url = URL(config.url)
    if url.scheme == "unix":
        return _LOCAL, aiohttp.UnixConnector(url.path, limit=0)
    if (port := _port(url)) is not None:
        return _LOCAL, HybridVsockConnector(url.path, port)
    if url.scheme == "http":
        return url, aiohttp.TCPConnector(limit=0)
    trusted = ssl.create_default_context(cafile=config.tls.ca if config.tls else None)
    return url, aiohttp.TCPConnector(limit=0, ssl=trusted)
