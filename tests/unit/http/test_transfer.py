"""Which downloads are sent in full segments."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gateway.http.transfer import _long_stretch


@contextmanager
def connected() -> Iterator[socket.socket]:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
        server.accept()[0],
    ):
        yield client


def is_corked(sock: socket.socket) -> bool:
    return bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK))


def test_a_long_stretch_has_full_segments_while_it_is_the_only_one() -> None:
    with connected() as first, connected() as second:
        with _long_stretch(first):
            assert is_corked(first)
            with _long_stretch(second):
                assert (is_corked(first), is_corked(second)) == (False, False)
        assert not is_corked(first)
        with _long_stretch(second):
            assert is_corked(second)


def test_a_stretch_that_breaks_off_leaves_nothing_behind() -> None:
    with connected() as first, connected() as second:
        with pytest.raises(ConnectionError), _long_stretch(first):
            raise ConnectionResetError
        assert not is_corked(first)
        with _long_stretch(second):
            assert is_corked(second)


def test_a_unix_socket_has_no_segments() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, _long_stretch(ours):
        pass
