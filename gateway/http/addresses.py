"""Whose request it is when proxies stand in between."""

import socket
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from aiohttp import web

Network = IPv4Network | IPv6Network


def client_address(request: web.BaseRequest, trusted: Sequence[Network]) -> str:
    """The address of the nearest peer that is not a trusted proxy.

    `X-Forwarded-For` is read from the right, each hop only while the one that wrote it is trusted:
    what stands further left is the client's own claim. A peer on a unix socket is trusted: who may
    connect is decided by the mode of the socket's file. It has no address.
    """
    address = request.remote or ""
    if not from_proxy(request, trusted):
        return address
    hops = ",".join(request.headers.getall("X-Forwarded-For", [])).split(",")
    for hop in reversed(hops):
        claimed = hop.strip()
        if not _is_address(claimed):
            break
        address = claimed
        if not _within(address, trusted):
            break
    return address


def from_proxy(request: web.BaseRequest, trusted: Sequence[Network]) -> bool:
    """Whether the peer itself is a trusted proxy."""
    if request.remote:
        return bool(trusted) and _within(request.remote, trusted)
    # A TCP client that is gone already has lost its address, too.
    transport = request.transport
    peer = transport.get_extra_info("socket") if transport is not None else None
    return peer is not None and peer.family == socket.AF_UNIX


def _within(address: str, networks: Sequence[Network]) -> bool:
    if not _is_address(address):
        return False
    parsed = ip_address(address)
    mapped = getattr(parsed, "ipv4_mapped", None) or parsed
    return any(mapped in network for network in networks)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
