"""A link is what the executor's capabilities say that it is, and never a way out."""

import pytest

from gateway.domain.errors import Outage, PathNotFound, PathRefused
from gateway.domain.model import Entry, Kind
from gateway.executors.base import Links
from tests.contract.asking import at, content, listed, opened, refusal
from tests.rigs import Rig

FILES = {"f": b"12345", "d/x": b"in d", "d/sub/y": b"deep"}
INSIDE = {"l-file": "f", "l-dir": "d", "d/l-up": "../f", "l-link": "l-file", "l-deep": "d/sub/y"}
NOWHERE = {"l-dangling": "nothing", "l-loop": "l-loop", "l-below": "f/x"}
OUTSIDE = {"l-out": "/etc/passwd", "l-up": "..", "l-far": "../../../../../../etc/hosts"}


def told(entries: list[Entry]) -> dict[bytes, tuple[Kind, bool, int | None]]:
    """What is listed, with the sizes of what is not a directory."""
    return {
        entry.path.raw: (
            entry.kind,
            entry.is_link,
            None if entry.kind is Kind.DIRECTORY else entry.size,
        )
        for entry in entries
    }


def needs(rig: Rig, links: Links) -> None:
    if rig.executor.capabilities.links is not links:
        pytest.skip(f"an executor whose links are {rig.executor.capabilities.links}")


async def test_a_link_is_marked_and_is_what_it_leads_to(rig: Rig) -> None:
    needs(rig, Links.RESOLVED)
    rig.plant({**FILES, **INSIDE})

    assert told(await listed(rig)) == {
        b"d": (Kind.DIRECTORY, False, None),
        b"d/l-up": (Kind.FILE, True, 5),
        b"d/sub": (Kind.DIRECTORY, False, None),
        b"d/sub/y": (Kind.FILE, False, 4),
        b"d/x": (Kind.FILE, False, 4),
        b"f": (Kind.FILE, False, 5),
        b"l-deep": (Kind.FILE, True, 4),
        b"l-dir": (Kind.DIRECTORY, True, None),
        b"l-file": (Kind.FILE, True, 5),
        b"l-link": (Kind.FILE, True, 5),
    }


async def test_a_link_that_leads_nowhere_is_only_a_link(rig: Rig) -> None:
    """What lies outside is not even told to be there."""
    needs(rig, Links.RESOLVED)
    rig.plant({**FILES, **NOWHERE, **OUTSIDE})

    links = {path: each for path, each in told(await listed(rig)).items() if path[:2] == b"l-"}

    assert links == {
        name.encode(): (Kind.SYMLINK, True, 0) for name in sorted({**NOWHERE, **OUTSIDE})
    }


@pytest.mark.parametrize("way_out", OUTSIDE)
async def test_no_link_leads_out(rig: Rig, way_out: str) -> None:
    needs(rig, Links.RESOLVED)
    rig.plant({**FILES, **OUTSIDE})

    for below in ("", "/etc/passwd"):
        where = at(way_out + below)
        assert await refusal(rig.executor.open(rig.workspace, where)) is PathRefused
        assert await refusal(rig.executor.walk(rig.workspace, where, depth=1)) is PathRefused


async def test_a_link_that_stays_inside_is_followed(rig: Rig) -> None:
    """Whatever the listing knows of it."""
    rig.plant({**FILES, **INSIDE})

    assert await content(rig, "l-file") == b"12345"
    assert await content(rig, "l-link") == b"12345"
    assert await content(rig, "d/l-up") == b"12345"
    assert await content(rig, "l-dir/x") == b"in d"
    assert await content(rig, "l-dir/sub/y") == b"deep"
    async with opened(rig, "l-dir/x") as stream:
        assert stream.entry.path == at("l-dir/x")
    below = [entry.path.raw for entry in await listed(rig, "l-dir", depth=1)]
    assert below == [b"l-dir/l-up", b"l-dir/sub", b"l-dir/x"]


async def test_a_dangling_link_is_not_found(rig: Rig) -> None:
    rig.plant({**FILES, "l-dangling": "nothing"})

    assert await refusal(rig.executor.open(rig.workspace, at("l-dangling"))) is PathNotFound


async def test_a_link_that_leads_nowhere_does_not_end_the_listing(rig: Rig) -> None:
    """Real servers answer 500 for a directory with one."""
    rig.plant({**FILES, **NOWHERE})

    try:
        entries = await listed(rig)
    except Outage:
        assert not rig.executor.capabilities.isolates
        return
    there = {entry.path.raw for entry in entries if entry.path.raw[:2] != b"l-"}
    assert there == {b"f", b"d", b"d/x", b"d/sub", b"d/sub/y"}


async def test_a_link_is_not_told_from_what_it_leads_to(rig: Rig) -> None:
    """Or only now and then, where a backend's answers happen to differ."""
    needs(rig, Links.HIDDEN)
    rig.plant({**FILES, **INSIDE})

    entries = told(await listed(rig, depth=1))

    assert entries[b"l-dir"][0] is Kind.DIRECTORY
    for name in (b"l-file", b"l-link"):
        kind, _, size = entries[name]
        assert kind is Kind.FILE
        assert size in (5, None)
