"""What a hostile path can make of a request: nothing but a value."""

import pytest
from pydantic import ValidationError

from gateway.executors.http_profile.request import Request

HOSTILE = ["/w/a b", "/w/../x", "/w/?a=b&c#d", "/w/%2e%2e%2f", "/w/{workspace}", '/w/"\\\n', "/w/é"]


@pytest.mark.parametrize("path", HOSTILE)
def test_a_path_stays_one_value(path):
    request = Request.model_validate_json(
        '{"method": "POST", "path": "/fs/{path}/of/{workspace}",'
        ' "query": {"at": "{path}", "and": "x{workspace}/{path}y"},'
        ' "body": {"a": ["{path}", 1, null, {"b": "{workspace}"}]}}'
    )

    ask = request.filled(path, "s1")

    _, fs, segment, of, workspace = ask.path.split("/")
    assert (fs, of, workspace) == ("fs", "of", "s1")
    assert not set(segment) & set('/?#&" \\\n{}')
    assert ask.query == [("at", path), ("and", f"xs1/{path}y")]
    assert ask.body == {"a": [path, 1, None, {"b": "s1"}]}


@pytest.mark.parametrize(
    ("request_", "place", "said"),
    [
        ({"path": "fs"}, "path", "must begin with /"),
        ({"path": "/a?b"}, "path", "percent-encoded"),
        ({"path": "/a/../b"}, "path", "percent-encoded"),
        ({"path": "/a/x{path}"}, "path", "whole segment"),
        ({"path": "/{file}"}, "path", "whole segment"),
        ({"path": "/%zz"}, "path", "percent-encoded"),
        ({"path": "/a", "query": {"q": "{paht}"}}, "query", "no placeholder {paht}"),
        ({"path": "/a", "body": {"q": 1}}, "", "POST"),
        ({"path": "/a", "method": "POST", "body": [{"q": "{x}"}]}, "body", "no placeholder {x}"),
        ({"path": "/a", "method": "DELETE"}, "method", "GET"),
        ({"path": "/a", "headers": {"Host": "x"}}, "headers", "the gateway itself sets"),
        ({"path": "/a", "headers": {"A": "b\r\nC: d"}}, "headers", "pattern"),
        ({"path": "/a", "headers": {"A b": "c"}}, "headers", "pattern"),
    ],
)
def test_what_could_not_be_sent_is_refused(request_, place, said):
    with pytest.raises(ValidationError) as raised:
        Request.model_validate(request_)

    (error,) = raised.value.errors()
    assert place in map(str, (*error["loc"], ""))
    assert said in error["msg"]
