"""The config of an `http_profile`: mistakes with their places, and where each workspace is."""

import pytest
from pydantic import ValidationError

from gateway.cli.config_file import ExecutorModels
from gateway.config.errors import ConfigError
from gateway.config.load import from_mapping, load
from gateway.domain.errors import WorkspaceGone
from gateway.executors.http_profile.config import HttpProfileConfig
from gateway.executors.http_profile.profile import Archive
from gateway.executors.http_profile.reading import read_profile, shipped
from gateway.executors.http_profile.request import Request
from tests.rigs.http_profile import RIGS

GOOD = """
download:
  request: {path: /read, query: {path: "{path}"}}
"""


TAR = "archive: {request: {path: /t}, format: tar, "


def config(**changes) -> HttpProfileConfig:
    return HttpProfileConfig.model_validate(
        {"type": "http_profile", "profile": "sandbox-agent", "url": "http://127.0.0.1", **changes}
    )


def refusal(**changes) -> str:
    with pytest.raises(ValidationError) as raised:
        config(**changes)
    return "; ".join(error["msg"] for error in raised.value.errors())


def test_every_shipped_profile_is_tested_on_a_backend():
    assert set(shipped()) == {*RIGS, "openhands"} - {"own", "tar"}


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_profile_can_be_named(name):
    assert config(profile=name).profile == name


def test_all_that_is_wrong_with_a_profile_is_said_with_its_lines(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        """\
list:
  request: {path: /ls, query: {dir: "{dir}"}}
  entries: files
  fields:
    name: /name
    directory: {at: /dir}
    sice: /size
    modified: {at: /m, format: unix}
download:
  request: {methot: GET, path: /read}
errors:
  - {means: path_not_found}
  - {status: 404, means: missing}
"""
    )

    with pytest.raises(ConfigError) as raised:
        read_profile(str(file))

    said = [str(problem).removeprefix(f"{file}:") for problem in raised.value.problems]
    assert [line.partition(": must be one of")[0] for line in said] == [
        "2: list.request.query.dir: no placeholder {dir}; there are {path} and {workspace}",
        "3: list.entries: must be a JSON Pointer: empty for the whole answer, or /like/this",
        "6: list.fields.directory: needs either `equals` or `starts_with`",
        "7: list.fields.sice: unknown key (did you mean 'size'?)",
        "8: list.fields.modified.format",
        "10: download.request.methot: unknown key (did you mean 'method'?)",
        "12: errors.0: needs `status`, `answer`, or both",
        "13: errors.1.means",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "errors: [{status: 404, means: unclear}]", "`means: unclear` needs a `list`"),
        (GOOD + "capabilities: {range: true}", "unknown key (did you mean 'ranges'?)"),
        (GOOD + "errors: [{answer: {at: /a, equals: [1]}, means: unavailable}]", "must be text, a"),
        (GOOD + "list: 3", "must be a mapping"),
        (GOOD + "archive: {request: {path: /t}}", "archive.format: is missing"),
        (GOOD + "archive: {request: {path: /t}, format: zip}", "must be one of tar, tar.gz, not"),
        (GOOD + TAR + 'prefix: "{path}"}', "{name} is the directory's own"),
        (GOOD + TAR + "prefix: /workspace}", "must be names with slashes between them"),
        (GOOD + TAR + "prefix: ../x}", "must be names with slashes between them"),
        (GOOD + TAR + "made: a/b}", "archive.made: must match"),
        (GOOD + TAR + "exclude: a&b}", "archive.exclude: must match"),
        (GOOD + TAR + "of: Host}", "is a header that the gateway itself sets"),
        (GOOD + TAR + "prefex: x}", "unknown key (did you mean 'prefix'?)"),
        ("- a", "must be a mapping"),
        ("{}", "download: is missing"),
        (
            "download: {request: {path: /r}, content: {at: /c, encoding: text}}\n"
            "capabilities: {ranges: true}",
            "downloads without `content`",
        ),
    ],
)
def test_a_profile_that_contradicts_itself_is_refused(tmp_path, text, said):
    file = tmp_path / "mine.yaml"
    file.write_text(text)

    assert said in refusal(profile=str(file))


def test_a_mistake_in_a_profile_is_said_where_the_config_names_it(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("download: {}")
    executor = {"type": "http_profile", "profile": str(file), "url": "http://box"}

    with pytest.raises(ConfigError) as raised:
        from_mapping({"executors": {"box": executor}}, ExecutorModels(), "gateway.yaml")

    expected = f"executors.box.profile: {file}:1: download.request: is missing"
    assert expected in str(raised.value)


def test_an_unknown_profile_is_refused_with_a_suggestion():
    said = refusal(profile="openhand")

    assert "did you mean 'openhands'?" in said
    assert "./openhand.yaml" in said


def test_a_token_needs_a_place_in_the_profile(tmp_path, monkeypatch):
    monkeypatch.setenv("TOKEN", "x")
    file = tmp_path / "mine.yaml"
    file.write_text(GOOD)

    assert "no `auth`" in refusal(profile=str(file), token={"env": "TOKEN"})


def test_a_root_of_its_own_needs_a_way_to_tell_that_it_is_missing(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(GOOD)

    said = refusal(profile=str(file), root="/w/{workspace}", shared=True)

    assert "neither `list` nor `exists`" in said


def test_one_server_for_several_workspaces_is_refused_along_with_all_else(tmp_path):
    file = tmp_path / "gateway.yaml"
    file.write_text(
        """\
executors:
  box:
    type: http_profile
    profile: sandbox-agent
    url: http://sandboxes:2468
    root: /home/{workspace}
    spool: none
"""
    )

    with pytest.raises(ConfigError) as raised:
        load(str(file), ExecutorModels())

    root, spool = map(str, raised.value.problems)
    assert root == (
        f"{file}:6: executors.box.root: cannot hold {{workspace}} while `url` does not: one server "
        "for several workspaces follows a link from one into another; give each a server of its "
        "own, with {workspace} in `url`, or set `shared: true` if all of them trust each other"
    )
    assert spool.startswith(f"{file}:7: executors.box.spool: ")


@pytest.mark.parametrize(
    ("url", "root", "shared"),
    [
        ("http://{workspace}.sandboxes:2468", "/home/{workspace}", False),
        ("http://gate/{workspace}", "/workspace", False),
        ("http://sandbox:2468", "/workspace", False),
        ("http://sandboxes:2468", "/home/{workspace}", True),
    ],
)
def test_workspaces_are_apart_or_said_to_share(url, root, shared):
    assert config(url=url, root=root, shared=shared).shared is shared


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("http://{workspace}.sandboxes:2468", {"root": "/home/{workspace}"}),
        ("http://{workspace}.sandboxes:2468", {"root": "/workspace"}),
        ("http://sandbox:2468", {}),
    ],
)
def test_only_workspaces_on_one_server_can_share_it(url, root):
    assert "for `shared: true` to mean anything" in refusal(url=url, shared=True, **root)


@pytest.mark.parametrize("wrong", [{"url": "ftp://x"}, {"shared": "maybe"}])
def test_what_cannot_be_read_is_not_said_to_be_shared(wrong):
    assert "workspaces" not in refusal(root="/w/{workspace}", **wrong)


@pytest.mark.parametrize("root", ["", "w", "/w/", "/w/..", "/./w", "//w", "/{x}", "/w\0", "/{"])
def test_a_root_is_absolute_and_plain(root):
    assert "must be an absolute path" in refusal(root=root) or "braces" in refusal(root=root)


@pytest.mark.parametrize(
    ("root", "expected"),
    [("/", ""), ("/workspace", "/workspace"), ("/w/{workspace}/x", "/w/s1/x")],
)
def test_the_root_is_a_prefix(root, expected):
    url = "http://{workspace}.sandboxes:2468"

    assert config(url=url, root=root).directory("s1") == expected


@pytest.mark.parametrize(
    ("prefix", "directory", "expected"),
    [
        (None, "/workspace", ()),
        ("{name}", "/workspace", (b"workspace",)),
        ("{name}", "/workspace/a b", (b"a b",)),
        ("{name}", "/", ()),
        ("box/{name}", "/w/x", (b"box", b"x")),
        ("files", "/w/x", (b"files",)),
    ],
)
def test_the_prefix_of_a_tar_may_be_the_directorys_name(prefix, directory, expected):
    archive = Archive(request=Request(path="/t"), format="tar", prefix=prefix)

    assert archive.prefix_of(directory) == expected


@pytest.mark.parametrize(
    ("url", "workspace", "expected"),
    [
        ("http://{workspace}.sandboxes:2468", "s1", "http://s1.sandboxes:2468"),
        ("https://2468-{workspace}.dev.example", "a-b_c", "https://2468-a-b_c.dev.example"),
        ("http://gate:81/{workspace}/api", "S_1", "http://gate:81/S_1/api"),
        ("http://gate/{workspace}", "A" * 128, "http://gate/" + "A" * 128),
    ],
)
def test_each_workspace_has_its_place(url, workspace, expected):
    assert str(config(url=url).base(workspace)) == expected


@pytest.mark.parametrize("workspace", ["S1", "s" * 64, "tEam"])
def test_no_two_workspaces_share_a_host(workspace):
    """Host names are the same in capitals and end at 63 characters."""
    with pytest.raises(WorkspaceGone):
        config(url="http://{workspace}.sandboxes:2468").base(workspace)


@pytest.mark.parametrize(
    "url",
    [
        "http://{workspace}",  # a client would choose any host, or 2130706433, which is 127.0.0.1
        "http://{workspace}:2468",
        "http://127.0.0.{workspace}",
        "http://{workspace}.0.0.1",
        "http://{workspace}.1",
        "http://host:{workspace}",
        "http://{workspace}.{workspace}.example",
        "http://user@{workspace}.example",
        "http://{workspace}.Example",
        "unix:///run/{workspace}.sock",
        "vsock+unix:///run/{workspace}.sock?port=52",
        "{workspace}://host",
        "http://host/?q={workspace}",
        "http://{session}.example",
    ],
)
def test_a_client_names_no_host(url):
    with pytest.raises(ValidationError):
        config(url=url)
