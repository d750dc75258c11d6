"""The config of an `http_profile` executor, and where each workspace's backend is."""

import posixpath
import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, model_validator
from pydantic_core import PydanticCustomError
from yarl import URL

from gateway.config.errors import ConfigError
from gateway.config.units import Size
from gateway.domain.errors import WorkspaceGone
from gateway.executors.engines.connecting import RemoteConfig, checked_url
from gateway.executors.http_profile.profile import Profile
from gateway.executors.http_profile.reading import read_profile

_WORKSPACE = "{workspace}"
_HOST = re.compile(r"[a-z0-9.-]*\{workspace\}[a-z0-9-]*(\.[a-z0-9_-]+)*\.[a-z][a-z0-9-]*(:[0-9]+)?")
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")


def _url(text: str) -> str:
    checked_url(text.replace(_WORKSPACE, "w"))
    if _WORKSPACE in text and not text.startswith(("http://", "https://")):
        raise PydanticCustomError("url", "can have {workspace} only in http://… and https://…")
    authority = urlsplit(text).netloc
    if "{" in authority and not _HOST.fullmatch(authority):
        hint = (
            "must have a domain of yours behind {workspace}, in small letters, as in "
            "http://{workspace}.sandboxes:2468; without it a client could name any host"
        )
        raise PydanticCustomError("url", hint)
    return text


def _root(text: str) -> str:
    plain = text.replace(_WORKSPACE, "w")
    if not plain.startswith("/") or posixpath.normpath(plain) != plain or plain.startswith("//"):
        raise PydanticCustomError("root", "must be an absolute path without . or .., as /workspace")
    if {"{", "}", "\0"} & set(plain):
        raise PydanticCustomError("root", "may hold {workspace} and no other braces")
    return text


def _profile(name: str) -> str:
    try:
        read_profile(name)
    except ConfigError as exc:
        raise PydanticCustomError("profile", "{said}", {"said": _said(exc)}) from exc
    return name


def _said(exc: ConfigError) -> str:
    return "; ".join(map(str, exc.problems))


class HttpProfileConfig(RemoteConfig):
    """The backend that *profile* describes, at *url*.

    *root* is where its sandboxes have their workspace. Both may hold `{workspace}`: each workspace
    then has a server, or a directory, of its own. What lies in tars that the backend sends takes
    *spool* bytes on the disk, and not more.
    """

    url: Annotated[str, AfterValidator(_url)]
    profile: Annotated[str, AfterValidator(_profile)]
    root: Annotated[str, AfterValidator(_root)] = "/workspace"
    spool: Size = 4 * 1024**3

    @model_validator(mode="after")
    def _fits_the_profile(self) -> "HttpProfileConfig":
        profile: Profile = read_profile(self.profile)
        if self.token is not None and profile.auth is None:
            raise PydanticCustomError("token", "the profile has no `auth` for a token")
        if profile.list is None and profile.exists is None and _WORKSPACE in self.root:
            hint = (
                "`root` cannot hold {workspace}: this profile has neither `list` nor `exists` to "
                "tell a missing workspace from a missing file"
            )
            raise PydanticCustomError("root", hint)
        return self

    @property
    def has_many_backends(self) -> bool:
        """Whether each workspace has a server of its own."""
        return _WORKSPACE in self.url

    def base(self, workspace: str) -> URL:
        """Where the server of *workspace* is; raise `WorkspaceGone` if it can have none."""
        authority = urlsplit(self.url).netloc
        if _WORKSPACE in authority:
            # Host names are the same in capitals: without this, two workspaces would share one.
            host = authority.replace(_WORKSPACE, workspace).partition(":")[0]
            if len(host) > 253 or not all(map(_LABEL.fullmatch, host.split("."))):
                raise WorkspaceGone("no host can have the name of this workspace")
        return URL(self.url.replace(_WORKSPACE, workspace), encoded=True)

    def directory(self, workspace: str) -> str:
        """The root of *workspace* in its sandbox, without a slash at the end."""
        return self.root.replace(_WORKSPACE, workspace).rstrip("/")
