"""The executor of type `http_profile`: any list-and-download HTTP API that a profile describes."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Self

from gateway.domain.errors import GatewayError, ProtocolFault, StreamBroken
from gateway.domain.paths import WorkspacePath
from gateway.executors.base import (
    Archives,
    Capabilities,
    Health,
    Links,
    Plugin,
)
from gateway.executors.engines.remote_stream import RemoteStream
from gateway.executors.engines.rest import Ask, RestEngine
from gateway.executors.engines.spooled import Room, Spool
from gateway.executors.engines.tar_stream import TarStream
from gateway.executors.engines.walking import DirectoryWalk
from gateway.executors.http_profile.backend import Backend
from gateway.executors.http_profile.config import HttpProfileConfig
from gateway.executors.http_profile.profile import Profile
from gateway.executors.http_profile.reading import read_profile
from gateway.executors.http_profile.workspace import Workspace
from gateway.executors.streams import (
    EVERYTHING,
    ArchiveStream,
    FileStream,
    Members,
    Packed,
    Selection,
    Walk,
    Wanted,
)

_NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]*/?")


class HttpProfile(Plugin):
    """Reaches the backends that *profile* describes, through the connections of one *engine*."""

    Config = HttpProfileConfig

    def __init__(
        self,
        name: str,
        config: HttpProfileConfig,
        profile: Profile,
        engine: RestEngine,
        room: Room,
    ) -> None:
        super().__init__(name)
        self._config = config
        self._profile = profile
        self._engine = engine
        self._room = room
        declared = profile.capabilities
        self.capabilities = Capabilities(
            ranges=declared.ranges,
            versions=declared.versions,
            raw_names=False,
            links=Links.HIDDEN,
            proof=declared.proof,
            isolates=declared.isolates,
            own_backends=config.has_own_hosts,
            archives=_archives(profile),
        )

    @classmethod
    @asynccontextmanager
    async def running(cls, name: str, config: HttpProfileConfig) -> AsyncIterator[Self]:
        """Start with the profile as it is now; a later change of its file needs a reload."""
        profile = read_profile(config.profile)
        headers = {}
        if profile.auth is not None and config.token is not None:
            scheme = f"{profile.auth.scheme} " if profile.auth.scheme else ""
            headers[profile.auth.header] = scheme + config.token.read()
        somewhere = config.model_copy(update={"url": str(config.base("w"))})
        with Room.running(name, config.spool) as room:
            async with RestEngine.running(somewhere, headers) as engine:
                yield cls(name, config, profile, engine, room)

    async def probe(self) -> Health:
        """Ask for the profile's `health`, if it has one and there is one server to ask."""
        details = {"profile": self._config.profile}
        if self._profile.health is None or self._config.has_many_backends:
            return Health(ready=True, details={**details, "asked": "no"})
        try:
            async with self._engine.ask(Ask("GET", self._profile.health.path)):
                return Health(ready=True, details=details)
        except GatewayError as exc:
            return Health(ready=False, details={**details, "problem": exc.message})

    @asynccontextmanager
    async def open(
        self, workspace: str, path: WorkspacePath, wanted: Wanted = EVERYTHING
    ) -> AsyncIterator[FileStream]:
        """Open the file at *path*; that its first bytes can be had is found out here."""
        fetch = partial(self._workspace(workspace).content, path)
        async with fetch(wanted.first, wanted.count) as body:
            stream = RemoteStream(
                self.name, body, fetch, seekable=self._profile.capabilities.ranges
            )
            try:
                if body.entry.size != 0:
                    await stream.read(body.first, 1)
            except StreamBroken as exc:
                raise ProtocolFault("the executor's answer was cut short") from exc
            try:
                yield stream
            finally:
                await stream.aclose()

    @asynccontextmanager
    async def walk(
        self,
        workspace: str,
        path: WorkspacePath,
        *,
        depth: int,
        after: WorkspacePath | None = None,
        selection: Selection | None = None,
    ) -> AsyncIterator[Walk]:
        """Begin to list, with one request for each directory."""
        place = self._workspace(workspace)
        children = await place.children(path)
        yield DirectoryWalk(
            self.name,
            path,
            children,
            place.children,
            depth=depth,
            after=after,
            selection=selection,
        )

    def archive(
        self, workspace: str, packed: Packed
    ) -> AbstractAsyncContextManager[Members | ArchiveStream]:
        """Begin an archive: of tars, if the backend makes them; then all is here that is in it."""
        if self._profile.archive is None:
            return super().archive(workspace, packed)
        return self._packed(workspace, packed)

    @asynccontextmanager
    async def _packed(self, workspace: str, packed: Packed) -> AsyncIterator[Members]:
        place = self._workspace(workspace)
        without = _plain(packed.packing.exclude)
        root = tuple(self._config.directory(workspace).encode().split(b"/")[1:])
        async with Spool.opened(self._room) as spool:
            stream = TarStream(packed, spool, self._config.timeout.idle, root)
            for path in packed.packing.paths:
                await place.pack(path, without, stream)
            yield await stream.members(self.name)

    def _workspace(self, workspace: str) -> Workspace:
        many, own_host = self._config.has_many_backends, self._config.has_own_hosts
        engine = self._engine.at(self._config.base(workspace)) if many else self._engine
        root = self._config.directory(workspace)
        return Workspace(Backend(self._profile, engine, workspace, root, own_host=own_host))


def _archives(profile: Profile) -> Archives:
    if profile.archive is not None:
        return Archives.MEMBERS
    return Archives.REFUSED if profile.list is None else Archives.WALKED


def _plain(exclude: Sequence[str]) -> Sequence[str]:
    """The patterns that are a name, which every backend understands as git does.

    They only save work. None, if a later pattern may take them back.
    """
    if any(pattern.startswith("!") for pattern in exclude):
        return ()
    return [pattern for pattern in exclude if _NAME.fullmatch(pattern)]
