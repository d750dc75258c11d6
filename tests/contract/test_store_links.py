"""What every store promises of links."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.domain.errors import AlreadyExists, BadParameter
from gateway.store.base import Store
from gateway.store.store import opened
from tests.stores import digest, link, other_process, said_by


async def test_reads_back_what_was_kept(store: Store) -> None:
    links = [link("l1", max_uses=3, target='"it\'s 😀"'), link("l2")]
    for one in links:
        await store.links.create(one)

    assert [await store.links.by_id(one.id) for one in links] == links
    assert [await store.links.look(one.digest) for one in links] == links


async def test_taking_counts(store: Store) -> None:
    one = link(max_uses=2)
    await store.links.create(one)

    assert await store.links.take(one.digest) == replace(one, uses=1)
    assert await store.links.look(one.digest) == replace(one, uses=1)
    assert await store.links.take(one.digest) == replace(one, uses=2)
    assert await store.links.take(one.digest) is None
    assert await store.links.look(one.digest) is None
    assert await store.links.by_id(one.id) == replace(one, uses=2)


async def test_a_link_without_a_maximum_is_taken_as_often_as_anybody_likes(store: Store) -> None:
    one = link(max_uses=None)
    await store.links.create(one)

    taken = [await store.links.take(one.digest) for _ in range(20)]

    assert taken[-1] == replace(one, uses=20)


async def test_unknown_expired_used_up_and_revoked_are_one_answer(store: Store) -> None:
    now = datetime.now(UTC)
    await store.links.create(link("expired", expires_at=now - timedelta(microseconds=1)))
    await store.links.create(link("used", max_uses=1))
    await store.links.take(digest("used"))
    await store.links.create(link("revoked"))
    assert await store.links.revoke("revoked")

    for ticket in ("unknown", "expired", "used", "revoked"):
        assert await store.links.take(digest(ticket)) is None
        assert await store.links.look(digest(ticket)) is None
    assert not await store.links.revoke("revoked")
    assert not await store.links.revoke("a\0")
    assert await store.links.by_id("a\0") is None


@pytest.mark.parametrize("second", [{"link_id": "l1"}, {"digest": digest("l1")}])
async def test_an_id_and_a_ticket_are_there_once(store: Store, second: dict[str, str]) -> None:
    await store.links.create(link("l1"))

    with pytest.raises(AlreadyExists, match=r"^link: "):
        await store.links.create(link(**{"link_id": "l2", "digest": digest("l2"), **second}))


async def test_text_that_no_database_holds_is_refused(store: Store) -> None:
    for field in ("org", "session_id", "key_id", "target"):
        with pytest.raises(BadParameter, match=f"^{field}: "):
            await store.links.create(link(**{field: "a\0"}))


async def test_uses_are_counted_exactly_however_many_take_at_once(shared: str) -> None:
    """Fifty takers in each of two processes, for seven uses."""
    async with opened(shared) as store:
        await store.links.create(link("l1", max_uses=7))
        processes = [other_process(shared, "take", "l1", "50") for _ in range(2)]
        for process in processes:
            assert process.stdout is not None
            assert process.stdin is not None
            assert await asyncio.to_thread(process.stdout.readline) == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()

        given = [int(await said_by(process)) for process in processes]

        left = await store.links.by_id("l1")
    assert sum(given) == 7
    assert left is not None
    assert left.uses == 7
