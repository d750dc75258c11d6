"""Whatever bytes a path is made of, a download gives a file of the workspace or a refusal."""

import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.conftest import ResolverName
from tests.gateways import AUTH, Gateway, plant, threaded
from tests.kernel import content_beneath

SECRET = b"SECRET-CANARY"
_NAMES = [
    *(b"a", b"b", b"d", b"link", b"up", b"out", b"loop", b"dlink", b"sub", b"x.txt", b"secret"),
    *(b"..", b".", b"", b"...", b"..a", b"a..", b"%2e%2e", b"\\", b"..\\", b"\xff", b"\xc3\xa9"),
    *(b"a b", b"a+b", b"a%b", b"a#b", b"a?b", b"a;b", b"a\nb", b"\xc0\xae", "\uef80".encode()),
    *("\uefff".encode(), b"etc", b"passwd", b"s1", b"s2", b"~", b"-", b"\x00", b"fifo"),
]


def _tree(root: Path) -> Path:
    ordinary = [b"a", b"x.txt", b"...", b"..a", b"a..", b"%2e%2e", b"\\", b"\xff", b"\xc3\xa9"]
    ordinary += [b"a b", b"a+b", b"a%b", b"a#b", b"a?b", b"a;b", b"a\nb", b"\xc0\xae", b"~", b"-"]
    ordinary += ["\uef80".encode(), "\uefff".encode()]
    for top in (b"s1/", b"s1/d/", b"s1/d/sub/"):
        plant(root, {top + name: b"the file " + top + name for name in ordinary})
    plant(root, {"s1/link": "a", "s1/d/up": "../a", "s1/out": "../s2/secret", "s1/loop": "loop"})
    plant(root, {"s1/dlink": "d", "s1/d/out": "/etc/passwd", "s1/d/dlink": "../../s2"})
    plant(root, {"s2/secret": SECRET, "s2/a": SECRET, "secret": SECRET})
    os.mkfifo(root / "s1/fifo")
    return root


def _name_meant(raw: bytes) -> bytes:
    """Private-use characters stand for single bytes, as listings write them."""
    text = raw.decode("utf-8")
    return b"".join(
        bytes([ord(c) - 0xEF00]) if "\uef80" <= c <= "\uefff" else c.encode() for c in text
    )


@pytest.fixture(scope="module", params=["openat2", "components"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Gateway, int]]:
    """One gateway for all examples, and the workspace's directory for the reference."""
    root = _tree(tmp_path_factory.mktemp("property") / "workspaces")
    top = os.open(root / "s1", os.O_RDONLY | os.O_DIRECTORY)
    name = cast(ResolverName, request.param)
    with threaded(root, {"executors": {"local": {"resolver": name}}}) as gateway:
        yield gateway, top
    os.close(top)


_PATHS = st.one_of(
    st.lists(st.sampled_from(_NAMES), max_size=5).map(b"/".join),
    st.lists(st.sampled_from([*_NAMES, b"/", b"\\", b"//"]), max_size=8).map(b"".join),
    st.binary(max_size=60),
    st.text(max_size=30).map(lambda text: text.encode("utf-8", "surrogatepass")),
)
_PLAIN = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/!$&'()*+,;=:@\\|^"
)


def _encoded(path: bytes, seed: int) -> bytes:
    """*path* percent-encoded: what must be, and of the rest as chance has it."""
    chance = random.Random(seed)
    how_often = chance.choice([0.0, 0.1, 0.5, 1.0])
    return b"".join(
        bytes([byte])
        if byte in _PLAIN and chance.random() >= how_often
        else (b"%%%02x" if chance.random() < 0.5 else b"%%%02X") % byte
        for byte in path
    )


@settings(
    max_examples=400,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(path=_PATHS, seed=st.integers(0, 1 << 32))
@example(path=b"../s2/secret", seed=0)
@example(path=b"..\\..\\s2\\secret", seed=0)
@example(path=b"/etc/passwd", seed=1)
@example(path=b"a\x00/../x.txt", seed=1)
@example(path=b"dlink/../a", seed=1)
@example(path=b"link/", seed=0)
@example(path=b"d/dlink/secret", seed=0)
@example(path="\uef80".encode(), seed=1)
@example(path=b"\xed\xb2\x80", seed=1)
def test_a_path_names_one_file_of_the_workspace_or_none(
    served: tuple[Gateway, int], path: bytes, seed: int
) -> None:
    gateway, top = served
    status, body = _get(gateway.port, _encoded(path, seed))

    assert status < 500
    assert SECRET not in body
    if status != 200:
        assert body.startswith(b'{"error":"')
        # A refusal of what is plainly there would be wrong, too.
        if path.isascii() and not {b"", b".", b".."} & set(path.replace(b"\\", b"/").split(b"/")):
            assert b"\0" in path or content_beneath(top, path) is None
        return
    assert b"\0" not in path
    assert not path.startswith(b"/")
    assert b".." not in path.replace(b"\\", b"/").split(b"/")
    assert body == content_beneath(top, _name_meant(path))


def _get(port: int, raw: bytes) -> tuple[int, bytes]:
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.sendall(
            b"GET /api/v1/sessions/s1/files/" + raw + b" HTTP/1.1\r\nHost: x\r\n"
            b"Connection: close\r\n" + AUTH.encode() + b"\r\n\r\n"
        )
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), body
