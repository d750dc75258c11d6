"""What every store promises of sessions."""

import asyncio
import secrets
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.domain.errors import AlreadyExists, BadParameter
from gateway.domain.model import SessionId
from gateway.domain.records import Session, SessionPage
from gateway.store.base import Store
from tests.stores import START, link, session

HOSTILE = [
    "it's; DROP TABLE sessions; --",
    'a "quoted" $1 ?1 %s {0} \\',
    "naïve 😀 Ünïcode \u202e \ufffe",
    "line\nline\r\t\x7f",
    "",
    "x" * 100_000,
]
UNFIT = ["a\0b", "\ud800"]


async def test_reads_back_what_was_registered(store: Store) -> None:
    whole = Session(
        id=SessionId("sess_1"),
        org="acme",
        created_at=START,
        status="running",
        external_id="task-7",
        name="a name",
        agent_id="agt_1",
        version_id="ver_9",
        storage_binding_id="stb_1",
        internet_access=True,
        last_message_id="msg_1",
        last_message_status="done",
        metadata={"team": "red", "empty": ""},
        executor="edge",
        workspace="box-1",
    )
    bare = session(2)
    for one in (whole, bare):
        await store.sessions.create(one)

    found = [await store.sessions.find(one.id, "acme") for one in (whole, bare)]

    assert found == [whole, bare]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
async def test_text_is_only_text(store: Store, text: str) -> None:
    one = session(1, name=text, status=text, workspace=text, metadata={text: text, "k": text})
    await store.sessions.create(one)

    found = await store.sessions.page("acme", limit=10, metadata={text: text, "k": text})

    assert found == SessionPage((one,), None)
    assert await store.sessions.find(text, text) is None


@pytest.mark.parametrize("field", ["name", "external_id", "agent_id", "org", "status", "workspace"])
@pytest.mark.parametrize("text", UNFIT, ids=["NUL", "surrogate"])
async def test_text_that_no_database_holds_is_refused(store: Store, field: str, text: str) -> None:
    with pytest.raises(BadParameter, match=rf"^{field}: must not hold a NUL"):
        await store.sessions.create(session(**{field: text}))

    assert await store.sessions.find(text, "acme") is None
    assert await store.sessions.find("s1", text) is None


@pytest.mark.parametrize("metadata", [{"a\0": "b"}, {"a": "b\0"}])
async def test_such_metadata_is_refused_and_never_found(
    store: Store, metadata: dict[str, str]
) -> None:
    with pytest.raises(BadParameter, match=r"^metadata: "):
        await store.sessions.create(session(metadata=metadata))

    found = await store.sessions.page("acme", limit=10, metadata=metadata)

    assert found == SessionPage((), None)


async def test_a_name_that_is_too_long_for_an_index_is_refused(store: Store) -> None:
    """PostgreSQL would say it in words of its own, and only of some texts."""
    longest = "ü" * 256
    await store.sessions.create(session(1, org=longest, external_id=longest, agent_id=longest))

    for field in ("org", "external_id", "agent_id"):
        with pytest.raises(BadParameter, match=rf"^{field}: must not be longer than 512 bytes$"):
            await store.sessions.create(session(2, **{field: longest + "x"}))


async def test_is_found_by_its_external_id_in_its_own_organisation_only(store: Store) -> None:
    ours, theirs = session(1, external_id="task"), session(2, org="other", external_id="task")
    for one in (ours, theirs):
        await store.sessions.create(one)

    assert await store.sessions.find("task", "acme") == ours
    assert await store.sessions.find("task", "other") == theirs
    assert await store.sessions.find("task", "third") is None


async def test_nobody_can_hide_a_session_of_another_organisation(store: Store) -> None:
    ours = session(1, external_id="sess_2")
    await store.sessions.create(ours)
    squatter = session(2, org="other")
    await store.sessions.create(squatter)

    assert await store.sessions.find("sess_2", "acme") == ours
    assert await store.sessions.find("sess_2", "other") == squatter
    assert await store.sessions.find("sess_2", "third") == squatter


async def test_an_id_comes_before_an_external_id(store: Store) -> None:
    by_id, by_name = session(1), session(2, external_id="sess_1")
    for one in (by_name, by_id):
        await store.sessions.create(one)

    assert await store.sessions.find("sess_1", "acme") == by_id


@pytest.mark.parametrize(
    "second",
    [
        session(1, org="other"),
        session(2, external_id="task", metadata={"a": "b"}),
    ],
)
async def test_what_is_taken_is_taken(store: Store, second: Session) -> None:
    first = session(1, external_id="task")
    await store.sessions.create(first)

    with pytest.raises(AlreadyExists):
        await store.sessions.create(second)

    page = await store.sessions.page("acme", limit=10)
    assert page.sessions == (first,)
    assert (await store.sessions.page("acme", limit=10, metadata={"a": "b"})).sessions == ()


async def test_lists_the_newest_first_and_only_those_of_the_organisation(store: Store) -> None:
    numbers = [3, 1, 5, 2, 4]
    for number in numbers:
        await store.sessions.create(session(number))
        await store.sessions.create(session(number + 100, org="other"))

    page = await store.sessions.page("acme", limit=10)

    assert [one.id for one in page.sessions] == [f"sess_{n}" for n in (5, 4, 3, 2, 1)]
    assert page.next_cursor is None


async def test_every_filter_must_match_exactly(store: Store) -> None:
    data: list[dict[str, str]] = [
        {"team": "red", "env": "prod"},
        {"team": "red", "env": "test"},
        {"team": "Red", "env": "prod"},
        {"team": "red "},
        {},
    ]
    for number, metadata in enumerate(data):
        agent = "agt_even" if number % 2 == 0 else "agt_odd"
        await store.sessions.create(session(number, metadata=metadata, agent_id=agent))
    await store.sessions.create(session(9, org="other", metadata=data[0], agent_id="agt_even"))

    async def found(agent_id: str | None = None, **metadata: str) -> list[str]:
        page = await store.sessions.page("acme", limit=9, agent_id=agent_id, metadata=metadata)
        return [one.id.removeprefix("sess_") for one in page.sessions]

    assert await found(team="red") == ["1", "0"]
    assert await found(team="red", env="prod") == ["0"]
    assert await found(team="red", env="prod", more="") == []
    assert await found(team="r%") == []
    assert await found(agent_id="agt_even") == ["4", "2", "0"]
    assert await found(agent_id="agt_odd", team="red") == ["1"]


async def test_there_may_be_many_filters_but_not_any_number(store: Store) -> None:
    metadata = {f"k{number}": "v" for number in range(100)}
    one = session(metadata=metadata)
    await store.sessions.create(one)
    most = dict(list(metadata.items())[:32])

    assert (await store.sessions.page("acme", limit=9, metadata=most)).sessions == (one,)
    with pytest.raises(BadParameter, match=r"^metadata: no more than 32 filters"):
        await store.sessions.page("acme", limit=9, metadata={**most, "k32": "v"})


@pytest.mark.parametrize("metadata", [{}, {"team": "red"}, {"team": "red", "env": "prod"}])
async def test_pages_neither_repeat_nor_miss_a_session(
    store: Store, metadata: dict[str, str]
) -> None:
    """Several were registered at the same moment, and more come while the pages are read."""
    everywhere = {"team": "red", "env": "prod"}
    before = [
        session(n, created_at=START + timedelta(seconds=n // 4), metadata=everywhere)
        for n in range(20)
    ]
    for one in before:
        await store.sessions.create(one)

    seen: list[str] = []
    cursor = None
    for number in range(100, 200):
        page = await store.sessions.page("acme", limit=3, cursor=cursor, metadata=metadata)
        seen += [one.id for one in page.sessions]
        await store.sessions.create(session(number, metadata=everywhere))
        if number == 102:  # what a cursor names may go
            await store.sessions.delete(page.sessions[-1].id)
        cursor = page.next_cursor
        if cursor is None:
            break

    assert len(seen) == len(set(seen)) == 20
    assert set(seen) == {one.id for one in before}


async def test_a_page_that_is_just_full_is_the_last(store: Store) -> None:
    for number in range(3):
        await store.sessions.create(session(number))

    assert (await store.sessions.page("acme", limit=3)).next_cursor is None
    assert (await store.sessions.page("acme", limit=2)).next_cursor is not None


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "é", "a\0", "MTIz", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OS5h", "\ud800", "A" * 10_000],
)
async def test_another_cursor_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(BadParameter, match=r"^cursor: not a cursor"):
        await store.sessions.page("acme", limit=3, cursor=cursor)


async def test_an_update_is_seen_at_once_in_its_own_process(store: Store) -> None:
    before = session(1, metadata={"a": "b"})
    await store.sessions.create(before)
    assert await store.sessions.find(before.id, "acme") == before
    after = replace(
        before,
        name="new",
        status="ready",
        last_message_id="msg_2",
        last_message_status="done",
        executor="local",
        workspace="w1",
    )

    assert await store.sessions.update(before, after)

    assert await store.sessions.find(before.id, "acme") == after


async def test_of_two_transitions_from_one_status_one_wins(store: Store) -> None:
    before = session(1, status="waiting")
    await store.sessions.create(before)

    won = await asyncio.gather(
        *(
            store.sessions.update(before, replace(before, status=f"by-{number}"))
            for number in range(10)
        )
    )

    found = await store.sessions.find(before.id, "acme")
    assert won.count(True) == 1
    assert found is not None
    assert found.status == f"by-{won.index(True)}"


async def test_a_deleted_session_takes_its_links_and_events_along(store: Store) -> None:
    gone, stays = session(1, external_id="x", metadata={"a": "b"}), session(2, metadata={"a": "b"})
    for one in (gone, stays):
        await store.sessions.create(one)
        await store.links.create(link(f"link-{one.id}", session_id=one.id))
        await store.events.append(one.id, "test", {})

    assert await store.sessions.delete(gone.id)

    assert not await store.sessions.delete(gone.id)
    assert not await store.sessions.update(gone, replace(gone, name="x"))
    assert await store.sessions.find(gone.id, "acme") is None
    assert await store.sessions.find("x", "acme") is None
    assert (await store.sessions.page("acme", limit=9, metadata={"a": "b"})).sessions == (stays,)
    assert await store.links.by_id(f"link-{gone.id}") is None
    assert await store.links.by_id(f"link-{stays.id}") is not None
    assert await store.events.after(gone.id, 0, 9) == []
    assert len(await store.events.after(stays.id, 0, 9)) == 1
    await store.sessions.create(gone)  # all of its names are free again


async def test_what_sessions_and_their_workspaces_are_called_stays_claimed(store: Store) -> None:
    """Their files may outlive them."""
    named, moved = session(1, external_id="task", workspace="box-1"), session(2)
    for one in (named, moved):
        await store.sessions.create(one)
    await store.sessions.update(moved, replace(moved, workspace="box-2"))
    names = ["sess_1", "sess_2", "box-1", "box-2"]

    async def claimed() -> list[bool]:
        return [await store.sessions.claimed(name) for name in names]

    living = await claimed()
    for one in (named, moved, named):
        await store.sessions.delete(one.id)
    dead = await claimed()
    await store.sessions.create(replace(named, workspace=None))
    await store.sessions.delete(named.id)
    dead_again = await claimed()

    assert living == dead == dead_again == [True] * 4


async def test_what_no_session_was_called_is_not_claimed(store: Store) -> None:
    """An external id is a name for its organisation only, and not that of a workspace."""
    one = session(1, external_id="task", name="name", executor="edge", workspace="box-1")
    await store.sessions.create(one)
    await store.sessions.delete(SessionId("never"))

    for _ in range(2):
        for text in ("task", "name", "edge", "acme", "never", "box", "", *UNFIT):
            assert not await store.sessions.claimed(text)
        await store.sessions.delete(one.id)


async def test_a_workspace_may_have_a_name_that_is_too_long_for_an_index(store: Store) -> None:
    one = session(1, workspace=secrets.token_hex(50_000))
    await store.sessions.create(one)

    assert await store.sessions.find(one.id, "acme") == one
    assert await store.sessions.delete(one.id)


async def test_what_was_left_with_a_status_is_found_oldest_first(store: Store) -> None:
    """Whoever's it is."""
    for number, org, status in ((3, "acme", "b"), (1, "globex", "b"), (2, "acme", "a")):
        await store.sessions.create(session(number, org=org, status=status))
    later = START + timedelta(hours=1)

    found = await store.sessions.left("b", later, 9)

    assert [one.id for one in found] == ["sess_1", "sess_3"]
    assert len(await store.sessions.left("b", later, 1)) == 1
    assert [one.id for one in await store.sessions.left("b", found[1].created_at, 9)] == ["sess_1"]
    assert list(await store.sessions.left("c", later, 9)) == []
