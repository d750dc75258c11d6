"""For any bytes as a path: a file is opened only if the kernel, asked independently, opens it."""

import os

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.domain.errors import GatewayError, PathRefused
from gateway.domain.paths import WorkspacePath
from gateway.executors.local.opening import Opener
from gateway.executors.local.root import Root
from gateway.system.pool import Pool
from gateway.system.resolver import choose
from tests.kernel import content_beneath
from tests.unit.executors.local.rig import OUTSIDE, RESOLVERS, Place

LINKS = {
    b"link": b"c d",
    b"up": b"..",
    b"out": b"../../../../outside/f",
    b"root": b"/etc/passwd",
    b"loop": b"loop",
    b"gone": b"missing",
}
NAMES = [*LINKS, b"a", b"b", b"c", b"c d", b"..b", b"a..", b"...", b"%2e%2e", b"\xc3\xa9", b"\xff"]
NAMES += [b"fifo", b"linked", b"etc", b"passwd"]
JOINTS = [b"/", b"//", b"/./", b"/../", b"\\", b"\\..\\", b"\0", b"%2f", b""]
PATHS = st.one_of(
    st.lists(st.one_of(st.sampled_from(NAMES), st.sampled_from(JOINTS)), max_size=9).map(b"".join),
    st.lists(st.sampled_from(NAMES), max_size=5).map(b"/".join),
    st.binary(max_size=20),
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Every directory holds the same names: files, links and a FIFO."""
    place = Place(tmp_path_factory.mktemp("any"))
    top = os.fsencode(place.session)
    for directory in (b"", b"a", b"a/b", b"linked", b"..b"):
        here = os.path.join(top, directory)
        os.makedirs(here, exist_ok=True)
        for name in (b"c", b"...", b"%2e%2e", b"c d", b"a..", b"\xc3\xa9"):
            with open(os.path.join(here, name), "wb") as file:
                file.write(directory + b"/" + name)
        for name, text in LINKS.items():
            os.symlink(text, os.path.join(here, name))
        os.mkfifo(os.path.join(here, b"fifo"))
    return place


def opened_both_ways(opener: Opener, path: WorkspacePath) -> bytes | None:
    """What the inline way and the pool's way agree on."""
    inline = opener.opened_inline("s1", path)
    try:
        fd, found = opener.open("s1", path)
    except GatewayError:
        assert inline is None
        return None
    content = os.pread(fd, found.st_size, 0)
    os.close(fd)
    if inline is not None:
        assert content == os.pread(inline[0], 100, 0)
        os.close(inline[0])
    return content


@given(raw=PATHS)
@example(raw=b"a/b/c d")
@example(raw=b"a/link")
@example(raw=b"linked/../up/c")
@example(raw=b"a/up/a/b/up/link")
@example(raw=b"up/c")
@settings(max_examples=500)
def test_what_is_opened_is_what_the_kernel_finds_inside(tree: Place, raw: bytes) -> None:
    try:
        path = WorkspacePath.parse(raw)
    except PathRefused:
        return
    plain = b"/".join(part for part in raw.split(b"/") if part not in (b"", b"."))
    if path.raw != plain:
        return  # an escaped byte: the file's name is another than the one asked for
    session = os.open(tree.session, os.O_PATH)
    expected = content_beneath(session, plain)
    os.close(session)

    for resolver in RESOLVERS:
        root = Root(str(tree.root))
        root.current()
        opener = Opener("local", root, choose(resolver, None), Pool("none", 0))
        content = opened_both_ways(opener, path)
        assert content == expected
        assert content != OUTSIDE
