"""How a backend is reached over the network: its address, its certificate, its credential."""

import ssl
from typing import Annotated

import aiohttp
from pydantic import AfterValidator, model_validator
from pydantic_core import PydanticCustomError
from yarl import URL

from gateway.config.model import ExecutorConfig, Section
from gateway.config.secret import Secret


def _url(text: str) -> str:
    url = URL(text)
    if url.scheme == "unix":
        if url.host or not url.path.startswith("/"):
            raise PydanticCustomError("url", "must be unix:///absolute/path")
    elif url.scheme not in ("http", "https") or not url.host:
        raise PydanticCustomError("url", "must be http://…, https://… or unix:///…")
    if url.user or url.password:
        raise PydanticCustomError("url", "must not hold a credential; there is `token` for that")
    if url.query_string or url.fragment:
        raise PydanticCustomError("url", "must not have a query or a fragment")
    return text


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
    """An executor whose backend is at *url*; *token* is the gateway's credential there."""

    url: Annotated[str, AfterValidator(_url)]
    token: Secret | None = None
    tls: Tls | None = None


def connector(config: RemoteConfig) -> tuple[URL, aiohttp.BaseConnector]:
    """The base of the backend's URLs, and what makes the connections to it."""
    url = URL(config.url)
    if url.scheme == "unix":
        return URL("http://localhost"), aiohttp.UnixConnector(url.path, limit=0)
    trusted = ssl.create_default_context(cafile=config.tls.ca if config.tls else None)
    return url, aiohttp.TCPConnector(limit=0, ssl=trusted)
