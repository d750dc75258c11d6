"""The requests of a profile: written with placeholders, filled for one path of one workspace."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import AfterValidator, JsonValue, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from gateway.config.section import Section
from gateway.executors.engines.rest import Ask

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_KNOWN = ("path", "workspace")
_SEGMENT = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*")
_OURS = {"accept-encoding", "connection", "content-length", "content-type", "host", "range", "te",
         "transfer-encoding", "upgrade", "user-agent"}  # fmt: skip


def _template(text: str) -> str:
    unknown = [name for name in _PLACEHOLDER.findall(text) if name not in _KNOWN]
    if unknown:
        reason = {"name": "{" + unknown[0] + "}"}
        raise PydanticCustomError(
            "placeholder", "no placeholder {name}; there are {path} and {workspace}", reason
        )
    return text


def _path(text: str) -> str:
    if not text.startswith("/"):
        raise PydanticCustomError("request_path", "must begin with /")
    for segment in text[1:].split("/"):
        if segment in (".", "..") or not _SEGMENT.fullmatch(_without_placeholder(segment)):
            hint = (
                "must be percent-encoded, without a query; {path} and {workspace} stand for a "
                "whole segment each"
            )
            raise PydanticCustomError("request_path", hint)
    return text


def _without_placeholder(segment: str) -> str:
    return "" if segment in ("{path}", "{workspace}") else segment


def _body(value: JsonValue) -> JsonValue:
    for text in _texts(value):
        _template(text)
    return value


def _texts(value: JsonValue) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _header(name: str) -> str:
    if name.lower() in _OURS:
        raise PydanticCustomError("header", "is a header that the gateway itself sets")
    return name


HeaderName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$"), AfterValidator(_header)
]
HeaderValue = Annotated[str, StringConstraints(pattern=r"^[!-~]([ -~]{0,1022}[!-~])?$")]


class Request(Section):
    """One request of a profile.

    `{path}` and `{workspace}` may stand in values of *query* and of *body*, which is sent as JSON,
    and as whole segments of *path*: there they are percent-encoded, slashes included.
    """

    method: Literal["GET", "POST"] = "GET"
    path: Annotated[str, AfterValidator(_path)]
    query: Mapping[str, Annotated[str, AfterValidator(_template)]] = {}
    headers: Mapping[HeaderName, HeaderValue] = {}
    body: Annotated[JsonValue, AfterValidator(_body)] = None

    @model_validator(mode="after")
    def _fits(self) -> "Request":
        if self.method == "GET" and self.body is not None:
            raise PydanticCustomError("request", "a body needs `method: POST`")
        return self

    def filled(self, path: str, workspace: str) -> Ask:
        """The request for *path*, absolute in the sandbox."""
        values = {"path": path, "workspace": workspace}
        segments = [
            quote(values[segment[1:-1]], safe="") if segment[:1] == "{" else segment
            for segment in self.path.split("/")
        ]
        return Ask(
            self.method,
            "/".join(segments),
            query=[(name, _filled(text, values)) for name, text in self.query.items()],
            headers=self.headers,
            body=_filled_body(self.body, values),
        )


def _filled(text: str, values: Mapping[str, str]) -> str:
    # In one pass, so that a placeholder in a hostile name stays what it is.
    return _PLACEHOLDER.sub(lambda found: values[found[1]], text)


def _filled_body(value: JsonValue, values: Mapping[str, str]) -> JsonValue:
    if isinstance(value, str):
        return _filled(value, values)
    if isinstance(value, dict):
        return {name: _filled_body(inner, values) for name, inner in value.items()}
    if isinstance(value, list):
        return [_filled_body(inner, values) for inner in value]
    return value
