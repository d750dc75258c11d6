"""Values and descriptors between processes."""

import os
import resource
import socket
from collections.abc import Iterator

import pytest

from gateway.system import frames


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def _open() -> set[str]:
    return {fd for fd in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{fd}")}


def test_a_value_comes_with_its_descriptor(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    frames.send(ours, ("zip", [b"x" * 100_000], None), [ours.fileno()])

    value, (descriptor,) = frames.receive_with(theirs, 1)

    assert value == ("zip", [b"x" * 100_000], None)
    assert os.path.sameopenfile(descriptor, ours.fileno())
    os.close(descriptor)


@pytest.mark.parametrize("head", [b"\1", b"\x10\0\0\0", b"\x10\0\0\0half"])
def test_what_breaks_off_leaves_no_descriptor(
    pair: tuple[socket.socket, socket.socket], head: bytes
) -> None:
    """Its sender may be killed between a descriptor and the value that it belongs to."""
    ours, theirs = pair
    before = _open()
    socket.send_fds(ours, [head], [ours.fileno()])
    ours.shutdown(socket.SHUT_WR)

    with pytest.raises(EOFError):
        frames.receive_with(theirs, 1)

    assert _open() == before


def test_a_descriptor_for_which_there_is_no_room_is_an_error(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    frames.send(ours, "value", [ours.fileno()])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        with pytest.raises(OSError, match="could not be taken"):
            frames.receive_with(theirs, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
