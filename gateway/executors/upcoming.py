"""The next thing that an iterator has, or a stand-in when there is none."""

from collections.abc import AsyncIterator
from typing import TypeVar

T = TypeVar("T")


async def upcoming(coming: AsyncIterator[T], end: T) -> T:
    """What *coming* yields next, *end* if it is exhausted."""
    # Not `anext` with a default: it fails in CPython 3.11 where what it awaits has to wait.
    try:
        return await coming.__anext__()
    except StopAsyncIteration:
        return end
