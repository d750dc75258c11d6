"""The loader: what it makes of a good file, and what it says about a bad one."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from ipaddress import ip_network

import pytest
from pydantic import BaseModel, ValidationError

from gateway.cli.config_file import ExecutorModels
from gateway.config.errors import ConfigError
from gateway.config.load import from_mapping, load
from gateway.config.model import Config
from gateway.domain.model import Scope
from tests.unit.config.models import EXECUTORS, Local, Rest

DIGEST = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
OTHER = "fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9"


SPOOLED = "executors: {disk: {type: local, root: /x}}\nspool: {dir: /somewhere, bytes: 1GiB}"


def loaded(tmp_path, text: str | bytes) -> Config:
    file = tmp_path / "c.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(str(file), EXECUTORS)


def problems(tmp_path, text: str | bytes) -> list[str]:
    """What is wrong, without the directory of the file."""
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text)
    return [str(problem).removeprefix(f"{tmp_path}/") for problem in caught.value.problems]


def test_a_full_config(tmp_path):
    config = loaded(
        tmp_path,
        f"""
server:
  host: 0.0.0.0
  port: 0
  workers: 3
  trusted_proxies: [10.0.0.0/8, "::1", 2001:0db8::/32]
  admin: {{}}
  header_timeout: 500ms
  min_rate: 0
  drain: 2m
auth:
  keys:
    - id: a.b_c-1
      org: acme
      sha256: {DIGEST.upper()}
      scopes: [files:read, admin]
      sessions: [team-*]
      expires: 2027-01-31T00:00:00Z
limits: {{file: 1.5kB, depth: 3}}
executors:
  disk: {{type: local, root: ./somewhere}}
  far: {{type: rest, url: "http://x", timeout: {{connect: 1}}}}
placement: {{default: {{executor: far}}}}
""",
    )

    assert config.server.trusted_proxies == tuple(
        map(ip_network, ("10.0.0.0/8", "::1", "2001:db8::/32"))
    )
    assert config.server.admin is not None
    assert config.server.admin.port == 9090
    assert config.server.header_timeout == 0.5
    assert config.server.min_rate == 0
    assert config.server.drain == 120.0
    (key,) = config.auth.keys
    assert key.sha256 == DIGEST
    assert key.scopes == (Scope.FILES_READ, Scope.ADMIN)
    assert key.expires == datetime(2027, 1, 31, tzinfo=UTC)
    assert config.limits.file == 1500
    disk, far = config.executors["disk"], config.executors["far"]
    assert isinstance(disk, Local)
    assert disk.root == "./somewhere"
    assert isinstance(far, Rest)
    assert far.timeout.connect == 1.0
    assert [disk.type, far.type] == ["local", "rest"]
    assert config.placement.default.executor == "far"


@pytest.mark.parametrize(
    ("environment", "directory"),
    [
        ({"HOME": "/home/u"}, "/home/u/.cache/workspace-gateway/spool"),
        ({"HOME": "/home/u", "XDG_CACHE_HOME": ""}, "/home/u/.cache/workspace-gateway/spool"),
        ({"HOME": "/home/u", "XDG_CACHE_HOME": "c"}, "/home/u/.cache/workspace-gateway/spool"),
        ({"HOME": "/home/u", "XDG_CACHE_HOME": "/c"}, "/c/workspace-gateway/spool"),
    ],
)
def test_archives_are_kept_in_the_users_cache(tmp_path, monkeypatch, environment, directory):
    """XDG's rules: a relative path there is to be ignored."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    config = loaded(tmp_path, "executors: {disk: {type: local, root: /x}}")

    assert config.spool.directory == directory
    assert loaded(tmp_path, SPOOLED).spool.directory == "/somewhere"


def test_one_executor_needs_no_placement(tmp_path):
    config = loaded(tmp_path, "executors: {disk: {type: local, root: /x}}")

    assert config.placement.default.executor == "disk"


def test_nobody_gets_in_unless_it_is_written(tmp_path):
    config = loaded(tmp_path, "executors: {disk: {type: local, root: /x}}")

    assert config.auth.keys == ()
    assert not config.auth.allow_unauthenticated


def test_a_config_is_frozen(tmp_path):
    config = loaded(tmp_path, "executors: {disk: {type: local, root: /x}}")

    with pytest.raises(ValidationError):
        config.server.port = 1  # type: ignore[misc]  # the point of the test


def test_every_problem_at_once(tmp_path):
    """Whoever mends a config wants to do it in one go."""
    found = problems(
        tmp_path,
        f"""\
sever: {{}}
server:
  prot: 9
  port: "8080"
  port: 1
  workers: 1.5
  header_timeout: 0
  trusted_proxies: [10, 10.0.0.1/8, 10.0.0.0/8]
auth:
  allow_unauthenticated: yes
  keys:
    - {{id: ci, org: no, sha256: hunter2, scopes: [file:read]}}
    - {{id: ci, org: 1.10, sha256: {DIGEST}, scopes: [], expires: 2027-01-01}}
    - {{id: "a b", org: "", sha256: {DIGEST.upper()}, scopes: [admin]}}
limits:
  file: 10 lightyears
  depth: true
executors:
  local:
    type: local
    rot: x
    root: ${{NOPE_NOT_SET}}
  Big: {{type: rset, url: http}}
  far:
    type: rest
    timeout: {{conect: 2s}}
placement:
  default: {{executor: locl}}
""",
    )

    assert found == [
        "c.yaml:1: sever: unknown key (did you mean 'server'?)",
        "c.yaml:3: server.prot: unknown key (did you mean 'port'?)",
        "c.yaml:4: server.port: must be a whole number, not '8080'",
        "c.yaml:5: server.port: is there twice, first on line 4",
        "c.yaml:6: server.workers: must be a whole number, not 1.5",
        "c.yaml:7: server.header_timeout: must be more than 0, not 0",
        "c.yaml:8: server.trusted_proxies.0: must be a network such as 10.0.0.0/8, not 10",
        "c.yaml:8: server.trusted_proxies.1: has bits set beyond its prefix; "
        "its network is 10.0.0.0/8",
        "c.yaml:10: auth.allow_unauthenticated: must be true or false, not 'yes'",
        "c.yaml:12: auth.keys.0.sha256: must be the key's SHA-256 as 64 hex digits: "
        "workspace-gateway keys hash",
        "c.yaml:12: auth.keys.0.scopes.0: must be one of sessions:read, sessions:write, "
        "files:read, archives:read, links:write, admin, not 'file:read' "
        "(did you mean 'files:read'?)",
        "c.yaml:13: auth.keys.1.id: is the same as auth.keys.0.id",
        "c.yaml:13: auth.keys.1.org: must be text, not a number; put it in quotes",
        "c.yaml:13: auth.keys.1.scopes: must have 1 or more",
        "c.yaml:13: auth.keys.1.expires: must be a time with its zone: 2027-01-31T00:00:00Z, "
        "not '2027-01-01'",
        "c.yaml:14: auth.keys.2.sha256: is the same as auth.keys.1.sha256",
        "c.yaml:14: auth.keys.2.id: must match [A-Za-z0-9._-]{1,64}",
        "c.yaml:14: auth.keys.2.org: must not be empty",
        "c.yaml:16: limits.file: must be a size such as 100MiB, 100MB or 4096, not '10 lightyears'",
        "c.yaml:17: limits.depth: must be a whole number, not true",
        "c.yaml:21: executors.local.rot: unknown key (did you mean 'root'?)",
        "c.yaml:22: executors.local.root: the environment variable NOPE_NOT_SET is not set",
        "c.yaml:23: executors.Big.type: no executor of type 'rset' (did you mean 'rest'?)",
        "c.yaml:23: executors.Big: must match [a-z0-9][a-z0-9_-]*",
        "c.yaml:24: executors.far.url: is missing",
        "c.yaml:26: executors.far.timeout.conect: unknown key (did you mean 'connect'?)",
        "c.yaml:28: placement.default.executor: no executor 'locl' (did you mean 'local'?)",
    ]


BAD = {
    "": ["c.yaml:1: must be a mapping; 'workspace-gateway config init' prints one to start from"],
    "# only a comment\n": [
        "c.yaml:1: must be a mapping; 'workspace-gateway config init' prints one to start from"
    ],
    "- a\n- b\n": [
        "c.yaml:1: must be a mapping; 'workspace-gateway config init' prints one to start from"
    ],
    "{}": ["c.yaml:1: executors: is missing"],
    "executors: {}": ["c.yaml:1: executors: must have 1 or more"],
    "executors:\n": ["c.yaml:1: executors: must be a mapping, not empty"],
    "executors: [1]": ["c.yaml:1: executors: must be a mapping, not a list"],
    "executors:\n  a: 5\n": ["c.yaml:2: executors.a: must be a mapping, not a number"],
    "executors:\n  a: {root: /x}\n": ["c.yaml:2: executors.a.type: is missing: one of local, rest"],
    "executors: {a: {type: 5, root: /x}}": [
        "c.yaml:1: executors.a.type: must be text: one of local, rest"
    ],
    "executors: {a: {type: [x]}}": ["c.yaml:1: executors.a.type: must be text: one of local, rest"],
    "executors:\n  a: {type: local, root: /x}\n  b: {type: local, root: /y}\n": [
        "c.yaml:1: placement: is missing: with several executors, default.executor must name one "
        "of them"
    ],
    "executors: {a: {type: local, root: /x}}\nplacement:\n  default: {executor: a, fallback: [a]}\n"
    "  rules: [{session: x, executor: a, fallback: [b]}]": [
        "c.yaml:3: placement.default.fallback.0: 'a' has been asked already in this route",
        "c.yaml:4: placement.rules.0.fallback.0: no executor 'b'",
    ],
    "executors: {a: {type: local, root: /x}}\nplacement: {default: {}}": [
        "c.yaml:2: placement.default.executor: is missing"
    ],
    "executors: {a: {type: local, root: /x}}\nserver:\n": [
        "c.yaml:2: server: must be a mapping, not empty"
    ],
    "executors: {a: {type: local, root: /x}}\nserver: {port: true}": [
        "c.yaml:2: server.port: must be a whole number, not true"
    ],
    "executors: {a: {type: local, root: /x}}\nserver: {port: 65536, workers: 0}": [
        "c.yaml:2: server.port: must be at most 65535, not 65536",
        "c.yaml:2: server.workers: must be at least 1, not 0",
    ],
    "executors: {a: {type: local, root: /x}}\nserver: {port: 0123, workers: 1_0}": [
        "c.yaml:2: server.port: must be a whole number, not '0123'",
        "c.yaml:2: server.workers: must be a whole number, not '1_0'",
    ],
    "executors: {a: {type: local, root: /x}}\nserver: {port: 1:30}": [
        "c.yaml:2: server.port: must be a whole number, not '1:30'"
    ],
    "executors: {a: {type: local, root: /x}}\nserver: {host: 0x7f}\nlimits: {depth: 1e3}": [
        "c.yaml:3: limits.depth: must be a whole number, not '1e3'"
    ],
    "executors: {a: {type: local, root: /x}}\nlimits: {file: -1}": [
        "c.yaml:2: limits.file: must be a size such as 100MiB, 100MB or 4096, not -1"
    ],
    "executors: {a: {type: local, root: no}}\nserver: {drain: yes}": [
        "c.yaml:2: server.drain: must be a time such as 30s, 500ms, 2m or 1h, not 'yes'"
    ],
    "executors: {a: {type: local, root: /x}}\nserver:\n  port: 80\n  socket: /s": [
        "c.yaml:4: server.socket: listens instead of server.port; remove one of the two"
    ],
    "executors: {a: {type: local, root: /x}}\nserver:\n  host: h\n  socket: /s": [
        "c.yaml:4: server.socket: listens instead of server.host; remove one of the two"
    ],
    f"executors: {{a: {{type: local, root: /x}}}}\nserver: {{socket: /{'s' * 107}}}": [
        "c.yaml:2: server.socket: must have at most 107 bytes (unix(7))"
    ],
    "executors: {a: {type: local, root: /x}}\nserver: {socket: /s, socket_mode: 660}": [
        'c.yaml:2: server.socket_mode: must be a mode in quotes such as "0660", not 660'
    ],
    "executors: {a: {type: local, root: /x}}\nserver: {offload: {prefix: /x/}}": [
        "c.yaml:2: server.offload: needs server.socket or trusted_proxies: only they are told"
    ],
    **{
        f"executors: {{a: {{type: local, root: /x}}}}\nserver: {server}": [
            "c.yaml:2: server.admin.port: is the same as server.port; choose another"
        ]
        for server in (
            "{port: 29090, admin: {port: 29090}}",
            "{port: 9090, admin: {}}",
            "{host: 0.0.0.0, port: 9090, admin: {}}",
            "{host: '::1', port: 9090, admin: {host: '::'}}",
        )
    },
    "executors: {a: {type: local, root: /x}}\nserver: {socket: /s, offload: {prefix: /api/x/}}": [
        "c.yaml:2: server.offload.prefix: is where the gateway itself answers; choose another"
    ],
    "executors: {a: {type: local, root: /x}}\nserver: {socket: /s, offload: {prefix: /../}}": [
        "c.yaml:2: server.offload.prefix: must match /([A-Za-z0-9_-]+/)+"
    ],
    **{
        f"executors: {{a: {{type: local, root: /x}}}}\ndialects: {{blackbox: {{root: {root}}}}}": [
            "c.yaml:2: dialects.blackbox.root: must be an absolute path such as /workspace, "
            "without a slash at its end"
        ]
        for root in ("work", "/", "/work/", "//work", "/work/..", "/a//b", "./x")
    },
    "executors: {a: {type: local, root: /x}}\nlimits: {archives_at_once: 0}": [
        "c.yaml:2: limits.archives_at_once: must be at least 1, not 0"
    ],
    "executors: {a: {type: local, root: /x}}\nauth: {keys: [5]}": [
        "c.yaml:2: auth.keys.0: must be a mapping, not a number"
    ],
    "executors: {a: {type: local, root: /x}}\n? [1, 2]\n: 3": ["c.yaml:2: a key must be text"],
    'executors: {a: {type: local, root: /x}}\n"x\\ud800": 3': ["c.yaml:2: a key must be text"],
    'executors: {a: {type: local, root: "\\ud800"}}': [
        "c.yaml:1: executors.a.root: is not text that UTF-8 can hold"
    ],
    'executors: {a: {type: local, root: /x}}\n"x: y\\n": 3': ["c.yaml:2: 'x: y\\n': unknown key"],
    "executors: {a: {type: local, root: !!python/name:os.system }}": [
        "c.yaml:1: executors.a.root: the tag 'tag:yaml.org,2002:python/name:os.system' "
        "is not supported"
    ],
    "executors: !x {a: {type: local, root: /x}}": [
        "c.yaml:1: executors: the tag '!x' is not supported"
    ],
    "a: 1\nb: [\n": [
        "c.yaml:3: not YAML: expected the node content, but found '<stream end>'",
    ],
    "a: b: c": ["c.yaml:1: not YAML: mapping values are not allowed here"],
    "server: {port: ${PORT}}": [
        "c.yaml:1: not YAML: expected ',' or '}', but got '{' "
        "(inside {...} or [...], ${VAR} needs quotes or a line of its own)"
    ],
    "a: 1\n---\nb: 2": ["c.yaml:2: not YAML: but found another document"],
    "a: *nowhere": ["c.yaml:1: not YAML: found undefined alias 'nowhere'"],
    "a: 1\nb: \x07": ["c.yaml:2: not YAML: a control character"],
    b"a: 1\nb: \xff": ["c.yaml:2: is not UTF-8 text"],
    'a: 1\nb: "\\UFFFFFFFF"': ["c.yaml:2: not YAML: a number or escape out of range"],
    "[" * 1000: ["c.yaml:1: not YAML: is nested too deeply"],
    "&a [*a]": ["c.yaml:1: holds too many values, or an alias of itself"],
    "a: &a\n  b: *a\n": ["c.yaml:2: holds too many values, or an alias of itself"],
    "".join(
        f"x{n + 1}: &x{n + 1} [{','.join([f'*x{n}'] * 9) if n else 'x'}]\n" for n in range(12)
    ): ["c.yaml:1: holds too many values, or an alias of itself"],
    "x" * (1024**2 + 1): ["c.yaml: is larger than 1048576 bytes"],
}


@pytest.mark.parametrize("text", BAD, ids=lambda text: repr(text[:40]))
def test_what_is_said(tmp_path, text):
    assert problems(tmp_path, text) == BAD[text]


def test_a_digest_that_is_a_key_is_not_repeated(tmp_path):
    """The likeliest mistake is to put the key itself there."""
    found = problems(
        tmp_path,
        "executors: {a: {type: local, root: /x}}\n"
        "auth: {keys: [{id: a, org: b, scopes: [admin], sha256: wsg_a_topsecret_1}]}",
    )

    assert "topsecret" not in "".join(found)


def test_the_value_of_a_variable_is_not_repeated(tmp_path, monkeypatch):
    """It may be a secret that stands in the wrong place."""
    monkeypatch.setenv("TOKEN", "topsecret")

    found = problems(
        tmp_path,
        "executors: {a: {type: local, root: /x}}\nserver:\n  port: ${TOKEN}\n  drain: ${TOKEN}\n",
    )

    assert found == [
        "c.yaml:3: server.port: must be a whole number, not the value of '${TOKEN}'",
        "c.yaml:4: server.drain: must be a time such as 30s, 500ms, 2m or 1h, "
        "not the value of '${TOKEN}'",
    ]


@pytest.mark.parametrize(
    ("name", "said"), [("nowhere.yaml", "No such file or directory"), (".", "Is a directory")]
)
def test_a_file_that_cannot_be_read(tmp_path, name, said):
    file = str(tmp_path / name)

    with pytest.raises(ConfigError) as caught:
        load(file, EXECUTORS)

    assert str(caught.value) == f"{file}: cannot be read: {said}"


def test_an_executor_must_take_every_file_that_is_served(tmp_path):
    """It would refuse what another one has, and a refusal is an answer."""
    text = "limits: {file: 200MiB}\nexecutors:\n  a: {type: rest, url: x, max_file: %s}"

    assert problems(tmp_path, text % "199MiB") == [
        "c.yaml:3: executors.a.max_file: must not be less than limits.file"
    ]
    assert loaded(tmp_path, text % "200MiB").limits.file == 200 * 1024**2


def test_a_deployment_with_a_bit_of_everything(tmp_path):
    """The names of settings that operators have learnt, and ways in which they write values."""
    file, token = tmp_path / "gateway.yaml", tmp_path / "sidecar"
    token.write_text("t" * 32)
    file.write_text(
        f"""
server:
  {{host: 0.0.0.0, port: 8080, workers: 2, trusted_proxies: [10.0.0.0/8],
   admin: {{host: 127.0.0.1, port: 9090}}}}
store: {{url: sqlite:///var/gateway.db}}
auth:
  keys:
    - {{id: ci, org: acme, sha256: {"0" * 64}, scopes: [files:read, archives:read]}}
  jwt:
    {{issuer: "https://login.example.com/", audience: files,
     jwks_url: "https://login.example.com/keys"}}
limits:
  {{file: 100MiB, archive_bytes: 10GiB, archive_entries: 200000, list_entries: 100000, depth: 256,
   requests_per_minute: 600, archives_at_once: 8}}
spool: {{dir: /var/lib/workspace-gateway/spool, bytes: 20GiB}}
executors:
  firecracker:
    type: firecracker
    url: "http://firecracker-executor:9001"
    workspaces: /mnt/sessions
    timeout: {{connect: 2s, first_byte: 40s, idle: 30s}}
  edge: {{type: gateway, url: "unix:///run/sidecar.sock", token: {{file: {token}}}}}
  local: {{type: local, root: /mnt/sessions}}
placement:
  default: {{executor: firecracker, fallback: [local]}}
  rules: [{{session: "k8s-*", executor: edge, fallback: [local]}}]
sessions: {{register: open}}
agents:
  agt_123:
    version: ver_9
    executor: edge
    sandbox: {{internet_access: false, secrets: [GITHUB_TOKEN]}}
"""
    )

    config = load(str(file), ExecutorModels())

    assert config.auth.jwt is not None
    assert config.auth.jwt.jwks_url == "https://login.example.com/keys"
    assert config.limits.archive_bytes == 10 * 1024**3
    assert config.executors["firecracker"].timeout.first_byte == 40
    assert [rule.session for rule in config.placement.rules] == ["k8s-*"]
    assert config.agents["agt_123"].executor == "edge"


def test_a_mapping_is_judged_like_a_file():
    executors = {"a": {"type": "local", "root": "/x"}}

    with pytest.raises(ConfigError) as caught:
        from_mapping({"executors": executors, "server": {"port": "1"}}, EXECUTORS, "here")

    assert str(caught.value) == "here: server.port: must be a whole number, not '1'"
    assert from_mapping({"executors": executors}, EXECUTORS, "here").server.port == 8080


class Lookups(Mapping[str, type[BaseModel]]):
    """Counts what is looked up."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> type[BaseModel]:
        self.asked.add(name)
        return EXECUTORS[name]

    def __iter__(self) -> Iterator[str]:
        return iter(EXECUTORS)

    def __len__(self) -> int:
        return len(EXECUTORS)


def test_only_the_executors_that_a_config_names_are_looked_up():
    """Looking one up imports it, and it may need packages that are not installed."""
    executors = Lookups()

    from_mapping({"executors": {"a": {"type": "local", "root": "/x"}}}, executors, "here")

    assert executors.asked == {"local"}
