"""The executor of Shannon: workspaces in Firecracker machines that live for one call each."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from gateway.config.model import ExecutorConfig, Timeouts
from gateway.config.units import Size
from gateway.domain.errors import (
    FileTooLarge,
    GatewayError,
    ProtocolFault,
    StreamBroken,
    Unsupported,
)
from gateway.domain.model import Entry, Kind
from gateway.domain.paths import WorkspacePath
from gateway.executors.base import (
    Archives,
    Capabilities,
    Health,
    Links,
    Plugin,
    Proof,
)
from gateway.executors.engines.connecting import RemoteConfig
from gateway.executors.engines.reply import Reply
from gateway.executors.engines.rest import RestEngine
from gateway.executors.engines.spooled import Room, Spool, SpooledFile
from gateway.executors.engines.tar_stream import TarStream
from gateway.executors.engines.tar_tree import Place
from gateway.executors.firecracker.calls import Calls
from gateway.executors.firecracker.envelope import Envelope
from gateway.executors.firecracker.packing import Noting, tar_in
from gateway.executors.firecracker.pages import TreeWalk, past_excluded
from gateway.executors.streams import (
    EVERYTHING,
    FileStream,
    Members,
    Packed,
    Selection,
    Walk,
    Wanted,
)


def _directory(path: str) -> str:
    if not path.startswith("/") or "\0" in path or not {".", ".."}.isdisjoint(path.split("/")):
        raise PydanticCustomError("directory", "must be an absolute path without '.' or '..'")
    return path


class FirecrackerConfig(RemoteConfig):
    """*workspaces* is the directory of all workspaces as the executor's host names it.

    A file that has more than *max_file* bytes is not taken from it, which must not keep any from
    being served; nor is an archive, and not more than *spool* bytes of all that is being read.
    """

    type: Literal["firecracker"]
    # A machine boots for every call, and the executor itself gives up after 30 s.
    timeout: Timeouts = Timeouts(first_byte=40.0)
    workspaces: Annotated[str, AfterValidator(_directory)] = "/mnt/sessions"
    max_file: Size = 100 * 1024**2
    spool: Size = 4 * 1024**3

    @property
    def largest_file(self) -> int:
        """What *max_file* says."""
        return self.max_file


class Firecracker(Plugin):
    """Asks for every file as a whole and keeps it on the disk while it is read.

    Files come as base64 in JSON, with their size behind them if at all. Spooled they have an exact
    size, cheap parts, and an error of the executor's is known before the first byte has left.
    """

    Config: ClassVar[type[ExecutorConfig]] = FirecrackerConfig
    capabilities = Capabilities(
        ranges=False,
        versions=False,
        raw_names=False,
        double_dots=False,
        links=Links.HIDDEN,
        proof=Proof.BOUNDARY,
        per_workspace=1,
        archives=Archives.MEMBERS,
    )

    def __init__(self, name: str, calls: Calls, room: Room, config: FirecrackerConfig) -> None:
        super().__init__(name)
        self._calls = calls
        self._room = room
        self._most = config.max_file
        self._idle_s = config.timeout.idle

    @classmethod
    @asynccontextmanager
    async def running(cls, name: str, config: FirecrackerConfig) -> AsyncIterator[Self]:
        """Start; nothing is asked of the executor yet."""
        headers = {}
        if config.token is not None:
            headers["Authorization"] = f"Bearer {config.token.read()}"
        with Room.running(name, config.spool) as room:
            async with RestEngine.running(config, headers) as engine:
                yield cls(name, Calls(engine, config.workspaces), room, config)

    async def probe(self) -> Health:
        """Ask for the executor's health and how many of its machines are in use."""
        try:
            health = await self._calls.health()
        except GatewayError as exc:
            return Health(ready=False, details={"error": exc.message})
        return Health(
            ready=health.status == "healthy",
            details={"machines": f"{health.pool_size} of {health.max_count}"},
        )

    @asynccontextmanager
    async def open(
        self, workspace: str, path: WorkspacePath, wanted: Wanted = EVERYTHING
    ) -> AsyncIterator[FileStream]:
        """Open the file at *path*: it is here, whole and checked, when this has been entered."""
        async with Spool.opened(self._room) as spool:
            async with self._calls.content(workspace, path) as reply:
                await self._take(reply, spool)
            entry = Entry(path, Kind.FILE, spool.size, None, 0)
            yield SpooledFile(self.name, entry, spool)

    async def _take(self, reply: Reply, spool: Spool) -> None:
        if reply.content_type != "application/json":
            raise ProtocolFault("the executor's answer is not JSON")
        excess = FileTooLarge(self._most)
        envelope = Envelope("content", self._most, excess)
        envelope.expect(reply.length)
        try:
            async for text in reply.chunks():
                await spool.write(envelope.feed(text))
        except StreamBroken as exc:
            raise ProtocolFault("the executor's answer was cut short") from exc
        envelope.end()
        await spool.flush()

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
        """Begin to list what lies below *path*, by one call for a page."""
        ask = partial(self._calls.page, workspace, path, depth)
        behind = None if after is None else past_excluded(path, after, selection)
        yield TreeWalk(self.name, path, await ask(behind), ask, selection)

    @asynccontextmanager
    async def archive(self, workspace: str, packed: Packed) -> AsyncIterator[Members]:
        """Begin an archive: with all of it here, had by one call for each directory.

        Raises `Unsupported` for more than one file may have: the executor holds it all in memory.
        With a selection another call finds out what need not come.
        """
        async with Spool.opened(self._room) as spool:
            stream = TarStream(packed, spool, self._idle_s)
            for path in packed.packing.paths:
                try:
                    await self._pack(workspace, path, packed, stream)
                except Unsupported:
                    async with self._archived(workspace, packed):  # `TooLarge` is for everybody
                        raise
            yield await stream.members(self.name)

    async def _pack(
        self, workspace: str, path: WorkspacePath, packed: Packed, stream: TarStream
    ) -> None:
        depth, without = packed.bounds.depth, await self._excluded(workspace, path, packed)
        async with self._calls.tar(workspace, path, depth, self._most, without) as reply:
            await stream.take(tar_in(reply, self._most), Place(path))

    async def _excluded(self, workspace: str, path: WorkspacePath, packed: Packed) -> Sequence[str]:
        if packed.selection is None:
            return ()
        noting = Noting(packed.selection, path)
        depth = packed.bounds.depth
        async with self.walk(workspace, path, depth=depth, selection=noting) as tree:
            async for _ in tree:
                pass
        return noting.noted
