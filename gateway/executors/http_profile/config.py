"""The config of an `http_profile` executor, and where each workspace's backend is."""

import posixpath
import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator
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
    then has a server, or a directory, of its own. Directories alone keep nothing apart, since the
    backends follow links: *shared* says that all workspaces of the one server may see each other.
    What lies in tars that the backend sends takes *spool* bytes on the disk, and not more.
    """

    url: Annotated[str, AfterValidator(_url)]
    profile: Annotated[str, AfterValidator(_profile)]
    shared: bool = False
    root: Annotated[str, AfterValidator(_root)] = Field(default="/workspace", validate_default=True)
    spool: Size = 4 * 1024**3

    @field_validator("root")
    @classmethod
    def _is_apart(cls, root: str, before: ValidationInfo) -> str:
        if not {"url", "shared"} <= before.data.keys():
            return root  # what is wrong with those has been said
        in_one = _WORKSPACE in root and _WORKSPACE not in before.data["url"]
        if in_one and not before.data["shared"]:
            hint = (
                "cannot hold {workspace} while `url` does not: one server for several workspaces "
                "follows a link from one into another; give each a server of its own, with "
                "{workspace} in `url`, or set `shared: true` if all of them trust each other"
            )
            raise PydanticCustomError("root", hint)
        if before.data["shared"] and not in_one:
            hint = "must hold {workspace}, and `url` must not, for `shared: true` to mean anything"
            raise PydanticCustomError("root", hint)
        return root

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

    @property
    def has_own_hosts(self) -> bool:
        """Whether that server has a host or port of its own."""
        return _WORKSPACE in urlsplit(self.url).netloc

    def base(self, workspace: str) -> URL:
        """Where the server of *workspace* is; raise `WorkspaceGone` if it can have none."""
        if self.has_own_hosts:
            # Host names are the same in capitals: without this, two workspaces would share one.
            host = urlsplit(self.url).netloc.replace(_WORKSPACE, workspace).partition(":")[0]
            if len(host) > 253 or not all(map(_LABEL.fullmatch, host.split("."))):
                raise WorkspaceGone("no host can have the name of this workspace")
        return URL(self.url.replace(_WORKSPACE, workspace), encoded=True)

    def directory(self, workspace: str) -> str:
        """The root of *workspace* in its sandbox, without a slash at the end."""
        return self.root.replace(_WORKSPACE, workspace).rstrip("/")
