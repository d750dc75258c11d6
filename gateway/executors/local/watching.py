"""Tells what changes in a workspace, by comparing what is there with what was there.

Only walks say what has changed: they never leave the workspace and follow no link. The kernel's
notices, where the extra `watch` is installed, only say when it is worth another walk; a watch that
a renamed directory has led astray is heard in vain. Where the kernel notices nothing, as on many
network file systems, the next walk is due after a while anyway.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from importlib.util import find_spec
from stat import S_ISDIR

from gateway.domain.errors import SessionNotFound, Unavailable
from gateway.domain.model import rows_of
from gateway.domain.paths import WorkspacePath
from gateway.executors.base import Changed
from gateway.executors.local.root import Root, session_name
from gateway.executors.streams import Walk
from gateway.system.descriptor import Descriptor, held
from gateway.system.pool import Pool

_HAS_NOTICES = find_spec("watchfiles") is not None
_WALK_EVERY_S = 5.0  # without any notice
_PAUSE_S = 1.0  # between walks at least: what changes meanwhile is told together
_SHARE = 20  # of its time a watch walks at most a twentieth
_MOST_ENTRIES = 10_000
_MOST_NOTICED = 1000  # directories
_MOST_PATHS = 100

_Parts = tuple[bytes, ...]
_State = tuple[int, int | None, int | None] | None
"""Mode, size and mtime_ns; None of a directory."""
_Tree = Mapping[_Parts, _State]
_ABSENT = (-1, None, None)


class Watch:
    """Watches *workspace* below *root* by *walk*s of all of it."""

    def __init__(
        self,
        root: Root,
        workspace: str,
        walk: Callable[[], AbstractAsyncContextManager[Walk]],
        readers: Pool,
    ) -> None:
        self._root = root
        self._workspace = workspace
        self._name = session_name(workspace)
        self._walk = walk
        self._readers = readers
        self._loop = asyncio.get_running_loop()
        self._is_local = False

    async def changes(self) -> AsyncIterator[Changed]:
        """Yield what has changed; of all processes that watch here, one does.

        Of a large tree only the first entries are compared.
        """
        async with held(self._readers.submit(self._open)) as directory:
            while True:
                if await asyncio.wrap_future(self._readers.submit(_locked, directory)):
                    break
                await asyncio.sleep(_PAUSE_S)
            before = await self._tree()
            while True:
                began = self._loop.time()
                # It listens before the walk begins, so that nothing falls between the two.
                notice = asyncio.create_task(self._notice(before))
                try:
                    await asyncio.sleep(0)
                    after = await self._tree()
                    changed = _compared(before, after)
                    if changed is not None:
                        yield changed
                    before = after
                    await asyncio.sleep(max(_PAUSE_S, _SHARE * (self._loop.time() - began)))
                    await notice
                finally:
                    notice.cancel()

    async def _tree(self) -> _Tree:
        """What is there; nothing, if the workspace is gone."""
        tree: dict[_Parts, _State] = {}
        with suppress(SessionNotFound):
            async with self._walk() as walk:
                async for batch in walk:
                    for above, name, mode, size, mtime_ns, *_ in rows_of(batch):
                        # A directory's own times change with what is in it, which is told.
                        is_directory = S_ISDIR(mode)
                        tree[*above, name] = None if is_directory else (mode, size, mtime_ns)
                    if len(tree) > _MOST_ENTRIES:
                        break
        return tree

    async def _notice(self, tree: _Tree) -> None:
        """Return when the kernel tells of a change, or after a while."""
        directories = [parts for parts, state in tree.items() if state is None]
        if not _HAS_NOTICES or not self._is_local or len(directories) > _MOST_NOTICED:
            await asyncio.sleep(_WALK_EVERY_S)
            return
        from watchfiles import awatch

        paths = [self._path(parts) for parts in ((), *directories)]
        noticing = awatch(*filter(None, paths), watch_filter=None, debounce=200, recursive=False)
        try:
            async with asyncio.timeout(_WALK_EVERY_S), aclosing(noticing):
                await anext(noticing)
        except (TimeoutError, ExceptionGroup):  # the latter for a change of what is not UTF-8
            return
        except (OSError, RuntimeError, StopAsyncIteration):  # gone meanwhile, or no watches left
            await asyncio.sleep(_WALK_EVERY_S)

    def _path(self, parts: _Parts) -> str | None:
        with suppress(UnicodeDecodeError):  # the library takes text only
            return b"/".join((os.fsencode(self._root.path), self._name, *parts)).decode()
        return None

    def _open(self) -> int:
        """A descriptor of the workspace's directory that can be locked; in a pool."""
        session = self._root.open_session(self._workspace)
        try:
            self._is_local = self._root.current().is_local
            return os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=session)
        except OSError as exc:
            raise Unavailable("the workspace cannot be read") from exc
        finally:
            os.close(session)


def _locked(directory: Descriptor) -> bool:
    """Whether the lock of *directory* is ours now; in a pool."""
    try:
        with directory.held() as fd:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # there are no locks here: rather told twice than not at all
    return True


def _compared(before: _Tree, after: _Tree) -> Changed | None:
    paths = sorted(
        path
        for path in before.keys() | after.keys()
        if before.get(path, _ABSENT) != after.get(path, _ABSENT)
    )
    if not paths:
        return None
    told = tuple(map(WorkspacePath, paths[:_MOST_PATHS]))
    return Changed(told, len(paths) - len(told))
