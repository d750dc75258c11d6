"""The processes that a test has started."""

import asyncio
import os
from pathlib import Path


def children() -> set[int]:
    """The processes that this one has started and that live."""
    pids = set()
    for task in os.listdir("/proc/self/task"):
        try:
            found = Path(f"/proc/self/task/{task}/children").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        pids |= {int(pid) for pid in found.split() if lives(int(pid))}
    return pids


def lives(pid: int) -> bool:
    """Whether the process has not ended."""
    try:
        return b") Z " not in Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


async def started(count: int, before: set[int]) -> set[int]:
    """The helpers, once there are so many."""
    async with asyncio.timeout(10):
        while len(children() - before) != count:
            await asyncio.sleep(0.01)
    return children() - before
