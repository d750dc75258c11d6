"""Which session an id stands for, and for whom; where its workspace is; when it comes up."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.domain.errors import (
    ForeignSession,
    GatewayError,
    NoWorkspace,
    ScopeMissing,
    SessionNotFound,
    Unavailable,
)
from gateway.domain.model import ANY_SESSION, Principal, Scope, SessionId
from gateway.domain.paths import WorkspacePath
from gateway.domain.records import Session
from gateway.service.events import Ledger
from gateway.service.placement import Placement
from gateway.service.sessions import IDLE, WAITING, Sessions
from gateway.service.workspaces import Bounds, Workspaces
from gateway.store.base import Store
from gateway.store.store import opened
from tests.doubles.memory import Memory, Workspace

BORN = datetime(2026, 3, 1, tzinfo=UTC)
BOUNDS = Bounds(1 << 20, 1000, 32)
FILE = WorkspacePath.parse(b"a")


def principal(org: str = "acme", *scopes: Scope, sessions: tuple[str, ...] = ANY_SESSION) -> Any:
    return Principal(
        org, org, frozenset(scopes or {Scope.FILES_READ, Scope.SESSIONS_READ}), sessions
    )


def session(session_id: str, org: str = "acme", **more: Any) -> Session:
    return Session(SessionId(session_id), org, more.pop("created_at", BORN), **more)


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with opened("sqlite://") as store:
        for one in (
            session("own", external_id="ours"),
            session("moved", executor="edge", workspace="there"),
            session("lost", executor="no-more"),
            session("theirs", "globex", external_id="their-own"),
            session("ours-too", "globex", external_id="own"),
        ):
            await store.sessions.create(one)
        yield store


@pytest.fixture
def executors() -> dict[str, Memory]:
    return {name: Memory(name) for name in ("default", "ruled", "edge")}


def sessions_of(executors: dict[str, Memory], store: Store | None, *, strict: bool) -> Sessions:
    placement = Placement(executors["default"], [("k8s-*", executors["ruled"])], executors)
    return Sessions(placement, store, strict=strict)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("reference", "org", "found"),
    [
        ("own", "acme", ("own", "default", "own")),
        ("ours", "acme", ("own", "default", "own")),
        ("moved", "acme", ("moved", "edge", "there")),
        ("theirs", "globex", ("theirs", "default", "theirs")),
        ("their-own", "globex", ("theirs", "default", "theirs")),
        ("own", "globex", ("ours-too", "default", "ours-too")),
        ("theirs", "acme", ForeignSession),
        ("ours-too", "acme", ForeignSession),
        ("lost", "acme", Unavailable),
    ],
)
async def test_registered_sessions_belong_to_those_who_registered_them(
    store: Store,
    executors: dict[str, Memory],
    reference: str,
    org: str,
    found: tuple[str, str, str] | type[GatewayError],
    strict: bool,
) -> None:
    asking = sessions_of(executors, store, strict=strict).workspace(
        principal(org), SessionId(reference), Scope.FILES_READ
    )
    if isinstance(found, type):
        with pytest.raises(found):
            await asking
        return

    workspace = await asking

    assert (workspace.session_id, workspace.executor.name, workspace.reference) == found


@pytest.mark.parametrize("reference", ["k8s-1", "their-own"])
@pytest.mark.parametrize("is_stored", [True, False])
async def test_what_nobody_registered_is_a_directory_where_that_is_open(
    store: Store, executors: dict[str, Memory], reference: str, is_stored: bool
) -> None:
    """Another organisation's external id is a name like any other."""
    sessions = sessions_of(executors, store if is_stored else None, strict=False)

    workspace = await sessions.workspace(principal(), SessionId(reference), Scope.FILES_READ)

    assert workspace.executor.name == ("ruled" if reference == "k8s-1" else "default")
    assert workspace.reference == workspace.session_id == reference


async def test_what_nobody_registered_is_nothing_where_that_is_strict(
    store: Store, executors: dict[str, Memory]
) -> None:
    sessions = sessions_of(executors, store, strict=True)
    for reference in ("s1", "their-own"):
        with pytest.raises(SessionNotFound):
            await sessions.workspace(principal(), SessionId(reference), Scope.FILES_READ)


@pytest.mark.parametrize("org", ["acme", "globex"])
@pytest.mark.parametrize("reference", ["there", "gone", "its-place"])
async def test_what_a_session_was_called_or_a_workspace_is_never_a_directory(
    store: Store, executors: dict[str, Memory], reference: str, org: str
) -> None:
    await store.sessions.create(session("gone", "globex", workspace="its-place"))
    await store.sessions.delete(SessionId("gone"))
    sessions = sessions_of(executors, store, strict=False)

    with pytest.raises(SessionNotFound):
        await sessions.workspace(principal(org), SessionId(reference), Scope.FILES_READ)


async def test_a_key_for_certain_sessions_does_not_learn_what_others_were_called(
    store: Store, executors: dict[str, Memory]
) -> None:
    """Nor does another key of its organisation get there because it has asked."""
    sessions = sessions_of(executors, store, strict=False)
    for reference in ("there", "unknown"):
        with pytest.raises(ForeignSession):
            await sessions.workspace(
                principal(sessions=("k8s-*",)), SessionId(reference), Scope.FILES_READ
            )

    with pytest.raises(SessionNotFound):
        await sessions.workspace(principal(), SessionId("there"), Scope.FILES_READ)


async def test_that_a_directory_is_no_session_is_known_for_a_moment(
    executors: dict[str, Memory],
) -> None:
    async with counting_store() as (store, looked_up):
        sessions = sessions_of(executors, store, strict=False)
        for _ in range(3):
            await sessions.workspace(principal(), SessionId("s1"), Scope.FILES_READ)

    assert len(looked_up) == 2


@pytest.mark.parametrize("reference", ["own", "theirs", "nothing"])
async def test_without_the_scope_nothing_is_told(
    store: Store, executors: dict[str, Memory], reference: str
) -> None:
    sessions = sessions_of(executors, store, strict=True)

    with pytest.raises(ScopeMissing):
        await sessions.workspace(principal(), SessionId(reference), Scope.ARCHIVES_READ)


@pytest.mark.parametrize("reference", ["own", "ours"])
async def test_patterns_are_of_ids_whichever_id_is_asked_for(
    store: Store, executors: dict[str, Memory], reference: str
) -> None:
    sessions = sessions_of(executors, store, strict=True)
    for pattern, may in (("own", True), ("ours", False)):
        caller = principal(sessions=(pattern,))
        if may:
            await sessions.workspace(caller, SessionId(reference), Scope.FILES_READ)
            await sessions.registered(caller, SessionId(reference))
            continue
        with pytest.raises(ForeignSession):
            await sessions.workspace(caller, SessionId(reference), Scope.FILES_READ)
        with pytest.raises(ForeignSession):
            await sessions.registered(caller, SessionId(reference))


async def test_a_list_leaves_out_what_a_key_may_not_see(
    store: Store, executors: dict[str, Memory]
) -> None:
    sessions = sessions_of(executors, store, strict=True)

    page = await sessions.page(principal(sessions=("m*", "l*")), limit=10, cursor=None, metadata={})

    assert {one.id for one in page.sessions} == {"moved", "lost"}


async def test_a_workspace_that_is_missing_is_told_from_a_session_that_is(
    store: Store, executors: dict[str, Memory]
) -> None:
    workspaces = Workspaces(
        sessions_of(executors, store, strict=False), Ledger(store.events), BOUNDS
    )
    for reference, verdict in (("own", NoWorkspace), ("s9", SessionNotFound)):
        with pytest.raises(verdict):
            async with workspaces.open(principal(), SessionId(reference), FILE):
                pass


async def test_a_session_that_waits_is_idle_once_its_workspace_is_seen(
    store: Store, executors: dict[str, Memory]
) -> None:
    late = session("late", status=WAITING, created_at=BORN + timedelta(days=1))
    await store.sessions.create(late)
    workspaces = Workspaces(
        sessions_of(executors, store, strict=True), Ledger(store.events), BOUNDS
    )
    with pytest.raises(NoWorkspace):
        async with workspaces.open(principal(), late.id, FILE):
            pass
    waiting = await store.sessions.find("late", "acme")
    executors["default"].workspaces["late"] = Workspace()
    executors["default"].workspaces["late"].write(b"a", b"x")

    for _ in range(2):
        async with workspaces.open(principal(), late.id, FILE) as stream:
            assert await stream.read(0, 1) == b"x"

    seen = await store.sessions.find("late", "acme")
    events = await store.events.after(late.id, 0, 10)
    assert waiting is not None
    assert seen is not None
    assert (waiting.status, seen.status) == (WAITING, IDLE)
    assert [event.kind for event in events] == ["session.status_changed", "workspace.available"]


async def test_foreign_and_unknown_sessions_take_the_same_steps(
    executors: dict[str, Memory],
) -> None:
    """One look into the database each time, and no executor is asked."""
    async with counting_store() as (store, looked_up):
        await store.sessions.create(session("theirs", "globex"))
        sessions = sessions_of(executors, store, strict=True)
        counts = {}
        for reference in ("theirs", "unknown"):
            for _ in range(3):
                with pytest.raises((ForeignSession, SessionNotFound)):
                    await sessions.workspace(principal(), SessionId(reference), Scope.FILES_READ)
            counts[reference] = len(looked_up)
            looked_up.clear()

    assert counts == {"theirs": 3, "unknown": 3}


@asynccontextmanager
async def counting_store() -> AsyncIterator[tuple[Store, list[str]]]:
    """A store, and the statements that it was read by since."""
    looked_up: list[str] = []
    async with opened("sqlite://") as store:
        database = store.sessions._database  # type: ignore[attr-defined]  # to listen at
        read = database.read

        async def noted(text: str, *values: Any) -> Any:
            looked_up.append(text)
            return await read(text, *values)

        database.read = noted
        yield store, looked_up
