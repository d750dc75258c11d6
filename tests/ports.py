"""Ports for programs that have to be told theirs."""

import itertools
import socket
from collections.abc import Iterator
from contextlib import suppress
from functools import cache

_BLOCK = 400
# Below those that the kernel gives to connections and to whoever binds port 0.
_BLOCKS = range(10_000, 32_000, _BLOCK)


def free_port() -> int:
    """A port of 127.0.0.1 that is free, as is the one after it; nobody else is given them.

    They are given again only after two hundred others, so that the program may take its time.
    """
    for port in _pairs():
        with suppress(OSError), socket.socket() as one, socket.socket() as next_one:
            one.bind(("127.0.0.1", port))
            next_one.bind(("127.0.0.1", port + 1))
            return port
    raise AssertionError("the pairs never end")


@cache
def _pairs() -> Iterator[int]:
    """The pairs of a block that is this process's alone for as long as it holds the first port."""
    for start in _BLOCKS:
        holder = socket.socket()
        try:
            holder.bind(("127.0.0.1", start))
        except OSError:
            holder.close()
            continue
        holder.detach()
        return itertools.cycle(range(start + 2, start + _BLOCK, 2))
    raise AssertionError(f"somebody has a port in each block of {_BLOCKS}")
