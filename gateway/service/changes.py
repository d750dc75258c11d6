"""Writes down what changes in workspaces, of sessions that somebody follows."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import orjson
import structlog

from gateway.domain.errors import GatewayError, SessionNotFound, Unsupported, WorkspaceGone
from gateway.domain.model import SessionId
from gateway.service.events import MOST_BYTES, Happened, Ledger
from gateway.service.sessions import Workspace
from gateway.system.background import Background

log = structlog.get_logger()

_AGAIN_S = 5.0


@dataclass(slots=True)
class _Watch:
    task: asyncio.Task[None]
    followers: int = 0


class Changes:
    """Watches each workspace once in this process, however many follow its session."""

    def __init__(self, ledger: Ledger, background: Background) -> None:
        self._ledger = ledger
        self._background = background
        self._watches: dict[SessionId, _Watch] = {}

    @asynccontextmanager
    async def watched(self, workspace: Workspace) -> AsyncIterator[None]:
        """Watch *workspace* meanwhile, if its executor can."""
        session_id = workspace.session_id
        watch = self._watches.get(session_id)
        if watch is None:
            work = self._background.keep("workspace.changes", partial(self._watch, workspace))
            watch = self._watches[session_id] = _Watch(asyncio.create_task(work))
        watch.followers += 1
        try:
            yield
        finally:
            watch.followers -= 1
            if not watch.followers:
                del self._watches[session_id]
                watch.task.cancel()
                await asyncio.wait([watch.task])

    async def _watch(self, workspace: Workspace) -> None:
        while True:
            try:
                async for changed in workspace.executor.changes(workspace.reference):
                    paths = [path.rooted for path in changed.paths]
                    told = [*_as_many_as_fit(paths)]
                    data: dict[str, object] = {"paths": told}
                    if more := changed.more + len(paths) - len(told):
                        data["more"] = more
                    await self._ledger.append(
                        workspace.session_id, Happened.WORKSPACE_CHANGED, data
                    )
            except Unsupported:
                return
            except (SessionNotFound, WorkspaceGone):
                pass  # it may come yet
            except GatewayError as exc:
                log.warning("workspace_not_watched", reason=exc.message)
            await asyncio.sleep(_AGAIN_S)


def _as_many_as_fit(paths: Iterable[str]) -> Iterator[str]:
    left = MOST_BYTES
    for path in paths:
        left -= len(orjson.dumps(path))
        if left < 0:
            return
        yield path
