"""Whose address is throttled and logged when proxies stand in between."""

import asyncio
import socket
from ipaddress import ip_network

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from gateway.http.addresses import client_address

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


def address(peer: str | None, *forwarded: str, trusted: bool = True) -> str:
    """What is taken for the client's address."""
    headers = CIMultiDict([("X-Forwarded-For", value) for value in forwarded])
    request = make_mocked_request("GET", "/", headers=headers).clone(remote=peer)
    return client_address(request, TRUSTED if trusted else [])


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("192.0.2.9", [], "192.0.2.9"),
        ("192.0.2.9", ["198.51.100.1"], "192.0.2.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["203.0.113.7, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["203.0.113.7", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["198.51.100.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["unknown, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1:4711"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", [" 198.51.100.1 "], "198.51.100.1"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("fd00::1", ["2001:db8::1"], "2001:db8::1"),
        ("2001:db8::2", ["2001:db8::1"], "2001:db8::2"),
    ],
)
def test_the_nearest_peer_that_is_not_a_trusted_proxy(
    peer: str, forwarded: list[str], expected: str
) -> None:
    """What stands further left is the client's own claim."""
    assert address(peer, *forwarded) == expected


def test_without_trusted_proxies_nobody_is_believed() -> None:
    assert address("10.0.0.1", "198.51.100.1", trusted=False) == "10.0.0.1"


def test_a_peer_without_address_is_the_empty_one() -> None:
    """A unix socket's."""
    assert address("", "198.51.100.1") == ""


def over(family: socket.AddressFamily, *forwarded: str) -> str:
    """The same for a peer without an address, on a socket of that family."""
    headers = CIMultiDict([("X-Forwarded-For", value) for value in forwarded])
    with socket.socket(family) as sock:
        transport = Transport({"socket": sock, "peername": None})
        request = make_mocked_request("GET", "/", headers=headers, transport=transport)
        return client_address(request, TRUSTED)


class Transport(asyncio.Transport):
    """A transport that has nothing but its facts."""


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        ([], ""),
        (["198.51.100.1"], "198.51.100.1"),
        (["203.0.113.7, 198.51.100.1"], "198.51.100.1"),
        (["198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        (["nonsense"], ""),
    ],
)
def test_a_peer_on_a_unix_socket_is_a_trusted_proxy(forwarded: list[str], expected: str) -> None:
    assert over(socket.AF_UNIX, *forwarded) == expected


def test_a_tcp_peer_that_is_gone_is_not() -> None:
    """It has no address any more, either."""
    assert over(socket.AF_INET, "198.51.100.1") == ""
