"""The executor whose backend is another workspace-gateway, most often the sidecar of a sandbox."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    closing,
    suppress,
)
from functools import partial
from types import TracebackType
from typing import ClassVar, Literal, Self
from urllib.parse import quote

from gateway.config.model import ExecutorConfig
from gateway.domain import cursors
from gateway.domain.errors import (
    GatewayError,
    NotAFile,
    Outage,
    ProtocolFault,
    TooLarge,
    Unsupported,
    WorkspaceGone,
)
from gateway.domain.model import parse_session_id
from gateway.domain.paths import WorkspacePath
from gateway.executors.base import Archives, Capabilities, Health, Links, Plugin, Proof, Sandbox
from gateway.executors.engines.connecting import RemoteConfig
from gateway.executors.engines.remote_stream import Body, RemoteStream
from gateway.executors.engines.reply import Reply
from gateway.executors.engines.rest import Ask, RestEngine
from gateway.executors.gateway.answers import (
    LONGEST_TARGET,
    answer,
    answered,
    begin,
    file_body,
    span,
)
from gateway.executors.gateway.archive import GatewayArchive
from gateway.executors.gateway.listing import GatewayWalk
from gateway.executors.streams import EVERYTHING, FileStream, Packed, Selection, Walk, Wanted

_DEEPEST = 256  # levels; who asks for more gets as many as the other gateway's limit allows
_LOOKING_S = 5.0
_NOBODYS = "workspace-gateway-probe"


class GatewayConfig(RemoteConfig):
    """Where the other gateway listens, and the key that it knows this one by."""

    type: Literal["gateway"]


class Gateway(Plugin):
    """Asks through Shannon's routes, and for archives through the native one. Conditions and ranges
    are passed on, and versions kept, so that a download that was cut off is resumed through any
    number of gateways.
    """

    Config: ClassVar[type[ExecutorConfig]] = GatewayConfig
    capabilities = Capabilities(
        ranges=True,
        versions=True,
        raw_names=True,
        links=Links.RESOLVED,
        proof=Proof.LENGTH,
        archives=Archives.WHOLE,
        provisions=True,
    )

    def __init__(self, name: str, engine: RestEngine) -> None:
        super().__init__(name)
        self._engine = engine

    @classmethod
    @asynccontextmanager
    async def running(cls, name: str, config: GatewayConfig) -> AsyncIterator[Self]:
        """Start; that the other gateway does not answer yet is no reason not to."""
        credential = {}
        if config.token is not None:
            credential["Authorization"] = f"Bearer {config.token.read()}"
        async with RestEngine.running(config, credential) as engine:
            yield cls(name, engine)

    async def probe(self) -> Health:
        """Ask for a session that nobody has: the answer shows that the key is good, too."""
        try:
            async with answered(self._engine, Ask("GET", _files(_NOBODYS), [("limit", "1")])):
                return Health(ready=True)
        except WorkspaceGone:
            return Health(ready=True)
        except GatewayError as exc:
            code = exc.code if isinstance(exc, Outage) else ProtocolFault.code
            return Health(ready=False, details={"reason": code})

    def open(
        self, workspace: str, path: WorkspacePath, wanted: Wanted = EVERYTHING
    ) -> AbstractAsyncContextManager[FileStream]:
        """Open the regular file at *path*; a link on the way is followed if it stays inside."""
        return _Opening(self.name, self._engine, workspace, path, wanted)

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
        """Begin to list what lies below *path*; the selection is made here, not there."""
        query = [("detail", "true")]
        if path.parts:
            query.append(("path", path.relative))
        if depth >= _DEEPEST:
            query.append(("recursive", "true"))
        elif depth > 1:
            query.append(("depth", str(depth)))

        def page(behind: WorkspacePath | None) -> AbstractAsyncContextManager[Reply]:
            cursor = [("cursor", cursors.encode(behind))] if behind is not None else []
            return answered(self._engine, Ask("GET", _files(workspace), [*query, *cursor]))

        listing = GatewayWalk(self.name, page, path, depth=depth, after=after, selection=selection)
        async with listing.begun():
            yield listing

    @asynccontextmanager
    async def archive(self, workspace: str, packed: Packed) -> AsyncIterator[GatewayArchive]:
        """Begin an archive that the other gateway makes, and to whose files and levels it puts its
        own limits; the entry that is too much is looked for here.
        """
        archive = GatewayArchive(self.name, self._engine, f"{_session(workspace)}/archive", packed)
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(archive.begun())
            except TooLarge:
                with suppress(Outage, TimeoutError):
                    async with asyncio.timeout(_LOOKING_S), self._archived(workspace, packed):
                        pass
                raise
            yield archive

    async def provision(self, sandbox: Sandbox) -> str:
        """Have the directory made over there; nothing else of the sandbox leaves this gateway."""
        ask = Ask("PUT", _session(sandbox.session_id))
        async with answered(self._engine, ask, {204}):
            return sandbox.session_id


class _Opening(AbstractAsyncContextManager[FileStream]):
    """The file at *path* over there, from the answer on that brings what is *wanted* of it."""

    # Not a generator: the loop keeps a list of those, which costs as much as reading the answer.

    def __init__(
        self, source: str, engine: RestEngine, workspace: str, path: WorkspacePath, wanted: Wanted
    ) -> None:
        self._source = source
        self._engine = engine
        self._workspace = workspace
        self._path = path
        self._wanted = wanted

    async def __aenter__(self) -> FileStream:
        if not self._path.parts:  # the routes have no way to ask for the root's bytes
            root = Ask("GET", _files(self._workspace), [("limit", "1")])
            (await answer(self._engine, root)).close()
            raise NotAFile("not a file")
        file = _File(self._engine, self._workspace, self._path)
        self._reply, asked = await file.first(self._wanted)
        try:
            body = file_body(self._reply, self._path, asked)
            later = partial(file.later, version=body.entry.version)
            self._stream = RemoteStream(self._source, body, later, seekable=True)
            await begin(self._stream, body)
        except BaseException:
            self._reply.close()
            raise
        return self._stream

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._reply.close()


class _File:
    """The file at *path* over there, in parts; raise `Unsupported` if it cannot be named."""

    def __init__(self, engine: RestEngine, workspace: str, path: WorkspacePath) -> None:
        self._engine = engine
        self._path = path
        self._target = f"{_files(workspace)}/{quote(path.relative, safe='/')}"
        if len(self._target) > LONGEST_TARGET:
            raise Unsupported("the path is too long for its executor")

    async def first(self, wanted: Wanted) -> tuple[Reply, int]:
        """The answer with what is *wanted*, or with all of the file if that lies behind its end;
        and the position that was asked for.
        """
        unless = {} if wanted.unless is None else {"If-None-Match": f'"{wanted.unless}"'}
        reply = await self._reply(wanted.first, wanted.count, unless)
        if reply.status != 416:
            return reply, wanted.first
        reply.close()
        return await self._reply(0, None, unless), 0

    @asynccontextmanager
    async def later(
        self, first: int, count: int | None, *, version: str | None
    ) -> AsyncIterator[Body]:
        """*count* bytes from *first*, None: all that follow; of that version, if it has one."""
        same = {} if version is None else {"If-Match": f'"{version}"'}
        with closing(await self._reply(first, count, same)) as reply:
            if reply.status == 416:
                raise ProtocolFault("the file is shorter than it was")
            yield file_body(reply, self._path, first)

    async def _reply(self, first: int, count: int | None, condition: Mapping[str, str]) -> Reply:
        """The answer with *count* bytes from *first*, None: all that follow; or 416."""
        is_part = first > 0 or count is not None
        headers = {**(span(first, count) if is_part else {}), **condition}
        expected = {200}
        if is_part:
            expected |= {206, 416}
        if "If-None-Match" in headers:
            expected.add(304)
        return await answer(self._engine, Ask("GET", self._target, headers=headers), expected)


def _files(workspace: str) -> str:
    return f"{_session(workspace)}/files"


def _session(workspace: str) -> str:
    return f"/api/v1/sessions/{parse_session_id(workspace)}"
