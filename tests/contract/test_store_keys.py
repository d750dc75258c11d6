"""What every store promises of keys."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.domain.errors import AlreadyExists, BadParameter
from gateway.domain.model import Scope
from gateway.store.base import Store
from tests.stores import START, digest, key


async def test_reads_back_what_was_kept(store: Store) -> None:
    whole = key(
        "a.b-c_d",
        scopes=frozenset(Scope),
        sessions=("team-*", "it's [a] 😀"),
        expires_at=START + timedelta(days=1),
        revoked_at=START,
        last_used_at=START,
    )
    bare = key("ci")
    for one in (whole, bare):
        await store.keys.create(one)

    for one in (whole, bare):
        assert await store.keys.by_digest(one.digest) == one
        assert await store.keys.by_id(one.id) == one
    assert await store.keys.by_digest(digest("other")) is None
    assert await store.keys.by_id("other") is None


async def test_a_key_says_who_holds_it(store: Store) -> None:
    expires = START + timedelta(days=1)
    await store.keys.create(key("ci", sessions=("a-*",), expires_at=expires))

    found = await store.keys.by_id("ci")

    assert found is not None
    principal = found.principal
    assert (principal.key_id, principal.org, principal.expires) == ("ci", "acme", expires)
    assert principal.scopes == {Scope.FILES_READ, Scope.ARCHIVES_READ}
    assert principal.sessions == ("a-*",)


@pytest.mark.parametrize("second", [key("ci", digest=digest("x")), key("x", digest=digest("ci"))])
async def test_an_id_and_a_key_are_there_once_even_when_revoked(
    store: Store, second: object
) -> None:
    await store.keys.create(key("ci"))
    assert await store.keys.revoke("ci")

    with pytest.raises(AlreadyExists, match=r"^key: "):
        await store.keys.create(second)  # type: ignore[arg-type]  # rows of one table


@pytest.mark.parametrize("changes", [{"key_id": "a\0"}, {"org": "a\0"}, {"sessions": ("a", "\0")}])
async def test_text_that_no_database_holds_is_refused(
    store: Store, changes: dict[str, str]
) -> None:
    with pytest.raises(BadParameter, match="must not hold a NUL"):
        await store.keys.create(key(**changes))


async def test_nothing_is_found_under_such_text(store: Store) -> None:
    assert await store.keys.by_id("a\0") is None
    assert await store.keys.all("a\0") == []
    assert not await store.keys.revoke("a\0")
    assert not await store.keys.rotate("a\0", digest("x"))


async def test_lists_all_or_those_of_an_organisation(store: Store) -> None:
    keys = [key("b"), key("B", org="other"), key("a")]
    for one in keys:
        await store.keys.create(one)

    assert [one.id for one in await store.keys.all()] == ["B", "a", "b"]
    assert [one.id for one in await store.keys.all("acme")] == ["a", "b"]


async def test_a_revoked_key_stays_revoked(store: Store) -> None:
    await store.keys.create(key("ci"))
    assert (found := await store.keys.by_digest(digest("ci"))) is not None
    assert found.revoked_at is None

    assert await store.keys.revoke("ci")

    assert (found := await store.keys.by_digest(digest("ci"))) is not None
    assert found.revoked_at is not None
    assert abs(datetime.now(UTC) - found.revoked_at) < timedelta(seconds=30)
    assert not await store.keys.revoke("ci")
    assert not await store.keys.rotate("ci", digest("new"))
    assert not await store.keys.revoke("unknown")


async def test_a_rotated_key_has_another_digest_and_is_the_same_else(store: Store) -> None:
    old = key("ci", sessions=("a-*",))
    await store.keys.create(old)
    await store.keys.create(key("other"))
    await store.keys.by_digest(old.digest)

    assert await store.keys.rotate("ci", digest("new"))

    assert await store.keys.by_digest(old.digest) is None
    assert await store.keys.by_digest(digest("new")) == replace(old, digest=digest("new"))
    assert not await store.keys.rotate("unknown", digest("x"))
    with pytest.raises(AlreadyExists):
        await store.keys.rotate("ci", digest("other"))


async def test_the_last_use_is_written_once_in_a_minute(store: Store) -> None:
    for key_id in ("ci", "idle"):
        await store.keys.create(key(key_id))

    async def last_used() -> datetime:
        async with asyncio.timeout(10):
            while True:
                found = await store.keys.by_id("ci")
                assert found is not None
                if found.last_used_at is not None:
                    return found.last_used_at
                await asyncio.sleep(0.01)

    store.keys.note_use("ci")
    first = await last_used()
    for _ in range(10):
        store.keys.note_use("ci")
        await asyncio.sleep(0.05)

    assert abs(datetime.now(UTC) - first) < timedelta(seconds=30)
    assert await last_used() == first
    idle = await store.keys.by_id("idle")
    assert idle is not None
    assert idle.last_used_at is None
