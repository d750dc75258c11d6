"""Opens files: inline when memory alone can answer, in the reading pool when not."""

import asyncio
import os
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from functools import partial

from gateway.domain.errors import GatewayError
from gateway.domain.paths import LONGEST_PATH, WorkspacePath
from gateway.executors.local.root import Root, located, session_name
from gateway.executors.local.stream import LocalStream
from gateway.executors.streams import FileStream
from gateway.system.descriptor import Descriptor
from gateway.system.openat2 import Openat2, enter_cached, resolve_cached
from gateway.system.pool import Pool
from gateway.system.resolver import Resolver, open_file, reopen

_Opened = tuple[int, os.stat_result]


class Opener:
    """Opens files of the workspaces below *root*."""

    def __init__(self, source: str, root: Root, resolver: Resolver, pool: Pool) -> None:
        self.source = source
        self.pool = pool
        self._root = root
        self._resolver = resolver
        self._knows_cached = isinstance(resolver, Openat2)

    def opened_inline(self, workspace: str, path: WorkspacePath) -> _Opened | None:
        """Open without waiting for anything; None if that cannot be done, whatever the reason."""
        found = self.found_inline(workspace, path)
        if found is None:
            return None
        try:
            return reopen(found)
        except (OSError, GatewayError):  # the pool finds the same, and says it
            return None
        finally:
            os.close(found)

    def found_inline(self, workspace: str, path: WorkspacePath) -> int | None:
        """An `O_PATH` descriptor of what memory alone can find; None if it cannot."""
        root = self._root.last
        if root is None or not root.is_local or not self._knows_cached:
            return None
        raw = path.raw
        if len(raw) > LONGEST_PATH:
            return None
        try:
            at_path = os.stat(self._root.path)
            if root.identity != (at_path.st_dev, at_path.st_ino):
                return None
            session = enter_cached(root.fd, session_name(workspace))
        except (OSError, GatewayError):
            return None
        if session < 0:
            return None
        if not raw:
            return session
        found = resolve_cached(session, raw)
        os.close(session)
        return found if found >= 0 else None

    def open(self, workspace: str, path: WorkspacePath) -> _Opened:
        """Open, however long it takes; raise the verdict if that cannot be done."""
        session = self._root.open_session(workspace)
        try:
            return open_file(self._resolver, session, path.parts)
        finally:
            os.close(session)

    async def location(self, workspace: str, file: Descriptor) -> bytes | None:
        """Where an open file of the workspace lies below the root; None if nowhere."""
        root = self._root.last
        if root is None:
            return None

        def find() -> bytes | None:
            with file.held() as fd:
                return located(root, session_name(workspace), fd)

        if root.is_local:  # what was just opened is in memory
            return find()
        return await asyncio.wrap_future(self.pool.submit(find))


class Opening(AbstractAsyncContextManager[FileStream]):
    """A file that is open inside the `async with`."""

    def __init__(self, opener: Opener, workspace: str, path: WorkspacePath) -> None:
        self._opener = opener
        self._workspace = workspace
        self._path = path

    async def __aenter__(self) -> FileStream:
        opener, workspace, path = self._opener, self._workspace, self._path
        opened = opener.opened_inline(workspace, path)
        if opened is None:
            coming = opener.pool.submit(opener.open, workspace, path)
            try:
                opened = await asyncio.wrap_future(coming)
            except asyncio.CancelledError:
                coming.add_done_callback(_close)
                raise
        locate = partial(opener.location, workspace)
        self._stream = LocalStream(opener.source, path, *opened, opener.pool, locate)
        return self._stream

    async def __aexit__(self, *exc: object) -> None:
        self._stream.close()


def _close(done: "Future[_Opened]") -> None:
    if not done.cancelled() and done.exception() is None:
        os.close(done.result()[0])
