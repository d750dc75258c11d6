"""The executor whose workspaces are directories of this host."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from threading import Thread
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator

from gateway.config.model import ExecutorConfig
from gateway.domain.archives import Bodies
from gateway.domain.errors import Unavailable
from gateway.domain.paths import WorkspacePath
from gateway.executors.base import (
    Archives,
    Capabilities,
    Changed,
    Collected,
    Health,
    Links,
    Plugin,
    Proof,
    Sandbox,
)
from gateway.executors.collecting import collected
from gateway.executors.local.helper import Helper
from gateway.executors.local.opening import Opener, Opening
from gateway.executors.local.readahead import ListedWalk, LocalWalk
from gateway.executors.local.recent import RecentListings, State
from gateway.executors.local.root import Root
from gateway.executors.local.walking import walk_batches
from gateway.executors.local.watching import Watch
from gateway.executors.streams import (
    EVERYTHING,
    FileStream,
    Members,
    Packed,
    Selection,
    Walk,
    Wanted,
)
from gateway.system.descriptor import held
from gateway.system.pool import Pool
from gateway.system.resolver import Resolver, Wish, choose

_READERS = 32  # wait for disks, not for the processor
_WATCHED_LEVELS = 64
_WALKERS = 4  # compete with the loop for the GIL


class LocalConfig(ExecutorConfig):
    """Where the workspaces are: each is a directory in *root*, named like its session.

    Absolute links below *sandbox_prefix*, where the sandbox has mounted the workspace, are taken
    from the workspace's root. *resolver* forces one way of resolving paths.
    """

    type: Literal["local"]
    # A slow reader holds one as long as it reads, and costs next to nothing.
    concurrency: int = Field(default=4096, ge=1)
    root: str
    resolver: Wish = "auto"
    sandbox_prefix: str | None = None

    @field_validator("root", "sandbox_prefix")
    @classmethod
    def _is_a_path(cls, path: str | None) -> str | None:
        if path == "":
            raise ValueError("must not be empty")
        if path is not None and "\0" in path:
            raise ValueError("must not contain a NUL character")
        return path

    @field_validator("sandbox_prefix")
    @classmethod
    def _is_absolute(cls, path: str | None) -> str | None:
        if path is not None and not path.startswith("/"):
            raise ValueError("must be an absolute path")
        if path is not None and not {".", ".."}.isdisjoint(path.split("/")):
            raise ValueError("must not contain '.' or '..'")
        return path


class Local(Plugin):
    """Reads by descriptors that were resolved below the workspace's directory, never by a path."""

    Config: ClassVar[type[ExecutorConfig]] = LocalConfig
    capabilities = Capabilities(
        ranges=True,
        versions=True,
        raw_names=True,
        links=Links.RESOLVED,
        proof=Proof.LENGTH,
        archives=Archives.MEMBERS,
        provisions=True,
        watches=True,
    )

    def __init__(
        self,
        name: str,
        root: Root,
        resolver: Resolver,
        readers: Pool,
        walkers: Pool,
        helper: Helper,
        prefix: str | None,
    ) -> None:
        super().__init__(name)
        self._root = root
        self._resolver = resolver
        self._prefix = prefix
        self._readers = readers
        self._walkers = walkers
        self._helper = helper
        self._opener = Opener(name, root, resolver, readers)
        self._recent = RecentListings(self._opener)

    @classmethod
    @asynccontextmanager
    async def running(cls, name: str, config: LocalConfig) -> AsyncIterator[Self]:
        """Start; a missing root is no reason not to: readiness says so until it is there.

        Raises `Unavailable` if paths cannot be resolved safely, or not in the way *config* forces.
        """
        root = Root(config.root)
        readers = Pool(f"{name}-read", _READERS)
        walkers = Pool(f"{name}-walk", _WALKERS)
        try:
            resolver = await asyncio.wrap_future(
                readers.submit(choose, config.resolver, config.sandbox_prefix)
            )
            helper = Helper(resolver.name, config.sandbox_prefix)
            try:
                yield cls(name, root, resolver, readers, walkers, helper, config.sandbox_prefix)
            finally:
                # Not in a pool: its threads may all be waiting, for the helper even.
                Thread(target=helper.close, name=f"{name}-end", daemon=True).start()
        finally:
            root.last = None
            readers.shutdown(wait=False, cancel_futures=True)
            walkers.shutdown(wait=False, cancel_futures=True)

    async def probe(self) -> Health:
        """Say whether the root can be read, and how paths are resolved."""
        details = {"resolver": self._resolver.name}
        try:
            await asyncio.wrap_future(self._readers.submit(self._root.current))
        except Unavailable:
            return Health(ready=False, details=details)
        return Health(ready=True, details=details)

    def open(
        self, workspace: str, path: WorkspacePath, wanted: Wanted = EVERYTHING
    ) -> AbstractAsyncContextManager[FileStream]:
        """Open the regular file at *path*; a link on the way is followed if it stays inside."""
        return Opening(self._opener, workspace, path)

    def walk(
        self,
        workspace: str,
        path: WorkspacePath,
        *,
        depth: int,
        after: WorkspacePath | None = None,
        selection: Selection | None = None,
    ) -> AbstractAsyncContextManager[Walk]:
        """Begin to list what lies below *path*; a link on the way there is followed, too."""
        is_plain = depth == 1 and after is None and selection is None
        entries = self._recent.listed(workspace, path) if is_plain else None
        if entries is not None:
            return nullcontext(ListedWalk(self.name, entries))
        state = self._recent.state(workspace, path) if is_plain else None
        return self._walked(workspace, path, depth, after, selection, state)

    async def provision(self, sandbox: Sandbox) -> str:
        """Make the directory; whoever runs the agent in it gives it everything else."""
        workspace = sandbox.session_id
        await asyncio.wrap_future(self._readers.submit(self._root.make_session, workspace))
        return workspace

    def changes(self, workspace: str) -> AsyncIterator[Changed]:
        """What a walk now and then finds changed."""
        walk = partial(self.walk, workspace, WorkspacePath.ROOT, depth=_WATCHED_LEVELS)
        return Watch(self._root, workspace, walk, self._readers).changes()

    @asynccontextmanager
    async def archive(self, workspace: str, packed: Packed) -> AsyncIterator[Members]:
        """Begin an archive; its walks and its bodies are of one directory, whatever takes its name.

        What cannot be opened is known beforehand. Members have versions: their `state_of`.
        """
        opening = self._readers.submit(self._root.open_session, workspace)
        async with held(opening) as session:

            def walk(path: WorkspacePath) -> AbstractAsyncContextManager[Walk]:
                batches = walk_batches(
                    self._resolver,
                    session.copy,
                    path,
                    depth=packed.bounds.depth,
                    after=None,
                    selection=packed.selection,
                    helper=self._helper,
                    for_archive=True,
                )
                return LocalWalk.begun(self.name, self._walkers, batches)

            collection = await collected(packed.packing.paths, packed.bounds, walk)
            bodies = Bodies(session.fd, (self._resolver.name, self._prefix))
            yield Collected(self, workspace, collection, bodies)

    @asynccontextmanager
    async def _walked(
        self,
        workspace: str,
        path: WorkspacePath,
        depth: int,
        after: WorkspacePath | None,
        selection: Selection | None,
        state: State | None,
    ) -> AsyncIterator[Walk]:
        """A walk by the pool; what was in *state* before is remembered if it was short."""
        batches = walk_batches(
            self._resolver,
            lambda: self._root.open_session(workspace),
            path,
            depth=depth,
            after=after,
            selection=selection,
            helper=self._helper,
        )
        async with LocalWalk.begun(self.name, self._walkers, batches) as walk:
            if state is not None and walk.everything is not None:
                self._recent.remember(workspace, path, state, walk.everything)
            yield walk
