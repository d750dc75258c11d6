"""Archives of workspaces that are in memory, and a gateway that serves them; no engine is needed.

The archives are real ones, by the standard library's writers; what the use case promises of them
is set by a test: whether their length is known before they are made, what is told of them, and
what goes wrong.
"""

import asyncio
import io
import os
import socket
import tarfile
import zipfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import blake2b
from typing import Any

from gateway.app import Services, authenticating, public
from gateway.domain.archives import ArchiveBounds, Format, Packing
from gateway.domain.errors import (
    GatewayError,
    NotADirectory,
    PathNotFound,
    SessionNotFound,
    StreamBroken,
)
from gateway.domain.model import Entry, Kind, Principal, Scope, SessionId
from gateway.domain.paths import WorkspacePath
from gateway.executors.streams import EVERYTHING, ArchiveStream, Wanted
from gateway.http.connection import Timeouts
from gateway.http.health import Lifecycle
from gateway.http.hosting import ConnectionServer, Hosted
from gateway.service.access import authorize
from gateway.service.archives import Archives
from gateway.service.changes import Changes
from gateway.service.events import Ledger
from gateway.service.following import Following
from gateway.service.links import Links
from gateway.service.placement import Placement
from gateway.service.provisioning import Provisioning
from gateway.service.sessions import Sessions
from gateway.service.workspaces import Bounds, Workspaces
from gateway.store.store import opened
from gateway.system.background import Background
from tests.doubles.memory import Memory
from tests.gateways import Gateway, config_for

_PIECE = 16 * 1024  # bytes


class MemoryArchive(ArchiveStream):
    """An archive of *files*; *prepared* notes each `whole` that `prepare` was called with."""

    def __init__(self, files: Mapping[str, bytes], packing: Packing, packer: "Packer") -> None:
        self.source = "memory"
        self._made = _packed(files, packing.format)
        size = len(self._made) if packing.stored or packer.is_spooled else None
        version = blake2b(self._made, digest_size=16).hexdigest() if packer.has_version else None
        self.entry = Entry(WorkspacePath.ROOT, Kind.FILE, size, None, 0o644, version=version)
        self.entries = len(files)
        self.uncompressed = sum(map(len, files.values()))
        self.skipped = packer.skipped
        self.prepared: list[bool] = []
        self._packer = packer

    async def prepare(self, *, whole: bool) -> None:
        self.prepared.append(whole)
        await asyncio.sleep(0)
        if self._packer.cannot_make is not None:
            raise self._packer.cannot_make
        self.spool = "hit" if self._packer.is_spooled else "miss"
        if whole or self._packer.is_spooled:
            self.entry = self.entry._replace(size=len(self._made))
            self.descriptor = os.memfd_create("archive")
            os.write(self.descriptor, self._made)

    async def read(self, first: int, count: int) -> bytes:
        assert self.prepared, "read before it was made"
        return self._made[first : first + count]

    async def chunks(self, first: int, count: int | None) -> AsyncIterator[bytes]:
        end = len(self._made) if count is None else first + count
        for position in range(first, end, _PIECE):
            await asyncio.sleep(0)
            if position >= self._packer.breaks_at:
                raise StreamBroken("a file became shorter")
            yield await self.read(position, min(_PIECE, end - position))


class Packer(Archives):
    """Packs *workspaces*, by session and path; *opened* notes what was asked for and answered."""

    def __init__(self, workspaces: Mapping[str, Mapping[str, bytes]]) -> None:
        self.bounds = ArchiveBounds(1000, 1 << 30, 1 << 20, 32)
        self.workspaces = workspaces
        self.opened: list[tuple[Packing, MemoryArchive]] = []
        self.is_spooled = False  # whole archives are there already
        self.has_version = True
        self.skipped: int | None = 0
        self.breaks_at = 1 << 40
        self.fallback: str | None = None
        self.cannot_open: GatewayError | None = None
        self.cannot_make: GatewayError | None = None

    @asynccontextmanager
    async def open(
        self,
        principal: Principal,
        session_id: SessionId,
        packing: Packing,
        wanted: Wanted = EVERYTHING,
    ) -> AsyncIterator[ArchiveStream]:
        authorize(principal, session_id, Scope.ARCHIVES_READ)
        if self.cannot_open is not None:
            raise self.cannot_open
        if session_id not in self.workspaces:
            raise SessionNotFound("session not found")
        files = _below(self.workspaces[session_id], packing)
        archive = MemoryArchive(files, packing, self)
        archive.fallback = self.fallback
        self.opened.append((packing, archive))
        try:
            yield archive
        finally:
            if archive.descriptor is not None:
                os.close(archive.descriptor)


@asynccontextmanager
async def packing_services(packer: Packer) -> AsyncIterator[Services]:
    """Every use case: archives of *packer*, files of an empty memory, no agent."""
    placement = Placement(Memory("memory"))
    sessions = Sessions(placement)
    background = Background()
    async with opened("sqlite://") as store, Ledger.running(store.events, background) as ledger:
        yield Services(
            Workspaces(sessions, ledger, Bounds(1 << 20, 1000, 32)),
            packer,
            sessions,
            Provisioning(sessions, placement, {}, store),
            Links(store, sessions, {}),
            Following(sessions, store.events, Changes(ledger, background)),
        )


@asynccontextmanager
async def packing_gateway(
    packer: Packer, changes: Mapping[str, Any] | None = None
) -> AsyncIterator[Gateway]:
    """The public application on *packer*, behind real connections."""
    config = config_for("/nowhere", changes)
    server = config.server
    timeouts = Timeouts(server.header_timeout, server.keepalive_timeout, server.idle_timeout)
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(packing_services(packer))
        authenticator = await stack.enter_async_context(authenticating(config.auth, Background()))
        site = public(config, Lifecycle(), authenticator, services)
        connections = ConnectionServer(Hosted(site), timeouts)
        sock = socket.create_server(("127.0.0.1", 0))
        listening = await asyncio.get_running_loop().create_server(connections, sock=sock)
        try:
            yield Gateway(sock.getsockname()[1], 0)
        finally:
            listening.close()
            await connections.drain(1)


def _below(files: Mapping[str, bytes], packing: Packing) -> dict[str, bytes]:
    kept: dict[str, bytes] = {}
    for path in packing.paths:
        if path.relative in files:
            raise NotADirectory("not a directory")
        prefix = f"{path.relative}/" if path.parts else ""
        found = {name: data for name, data in files.items() if name.startswith(prefix)}
        if path.parts and not found:
            raise PathNotFound("file not found")
        assert kept.keys().isdisjoint(found), "packed twice"
        kept |= found
    return dict(sorted(kept.items()))


def _packed(files: Mapping[str, bytes], form: Format) -> bytes:
    made = io.BytesIO()
    if form is Format.ZIP:
        with zipfile.ZipFile(made, "w") as archive:
            for name, data in files.items():
                archive.writestr(zipfile.ZipInfo(name), data)
        return made.getvalue()
    with tarfile.open(fileobj=made, mode="w:gz" if form is Format.TAR_GZ else "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return made.getvalue()
