"""One workspace behind a profile: links that listings hide, and errors that say too little."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from gateway.domain.errors import (
    GatewayError,
    NotAFile,
    NotReadable,
    PathNotFound,
)
from gateway.domain.model import Entry, Kind
from gateway.domain.paths import LONGEST_PATH, WorkspacePath
from gateway.executors.engines.remote_stream import Body
from gateway.executors.engines.tar_stream import TarStream
from gateway.executors.engines.tar_tree import Place
from gateway.executors.http_profile.answers import VERDICTS
from gateway.executors.http_profile.backend import NOT_THERE, Backend, Unclear
from gateway.executors.http_profile.profile import Links, Means, Operation

_AT_ONCE: Final = 4  # stat requests for one listing


class Workspace:
    """What an executor needs of a workspace, in verdicts that can be believed."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def children(self, directory: WorkspacePath) -> Sequence[Entry]:
        """The direct children of *directory*; raises what `Executor.walk` raises."""
        try:
            listed = await self._backend.listed(directory)
        except NOT_THERE as exc:
            raise await self._verdict(directory, Operation.LIST, exc) from exc
        return await self._resolved(listed)

    @asynccontextmanager
    async def content(
        self, path: WorkspacePath, first: int, count: int | None
    ) -> AsyncIterator[Body]:
        """The file at *path*; entering raises what `Executor.open` raises."""
        if not path.parts and await self._backend.has_workspace():
            raise NotAFile("not a file")
        async with AsyncExitStack() as stack:
            try:
                body = await stack.enter_async_context(self._backend.content(path, first, count))
            except NOT_THERE as exc:
                raise await self._verdict(path, Operation.DOWNLOAD, exc) from exc
            yield body

    async def pack(
        self, directory: WorkspacePath, without: Sequence[str], stream: TarStream
    ) -> None:
        """Have *stream* take all of *directory*; raises what that and `Executor.walk` raise."""
        archive = self._backend.profile.archive
        assert archive is not None, "asked for only where the profile has it"
        place = Place(directory, archive.prefix_of(self._backend.absolute(directory)))
        async with AsyncExitStack() as stack:
            try:
                answer = self._backend.tar(archive, directory, without)
                reply = await stack.enter_async_context(answer)
            except NOT_THERE as exc:
                raise await self._verdict(directory, Operation.ARCHIVE, exc) from exc
            is_gzip = archive.format == "tar.gz"
            await stream.take(reply.chunks(), place, is_gzip=is_gzip, made=archive.made)

    async def _verdict(
        self, path: WorkspacePath, operation: Operation, said: Exception
    ) -> GatewayError:
        """What is true of *path*, of which the backend has *said* that it is not there, or less.

        A path is only missing where the workspace is not.
        """
        if not path.parts:
            return VERDICTS[Means.WORKSPACE_GONE]()
        if isinstance(said, Unclear):
            return await self._seen(path, operation)
        assert isinstance(said, GatewayError)
        if isinstance(said, PathNotFound) and await self._backend.has_workspace() is False:
            return VERDICTS[Means.WORKSPACE_GONE]()
        return said

    async def _seen(self, path: WorkspacePath, operation: Operation) -> GatewayError:
        """What the listings above *path* say of it: of the nearest, else from the root downwards.

        That asks no more often than there are directories, however long the path.
        """
        last = len(path.parts) - 1
        for end in (last, *range(last)):
            directory = WorkspacePath(path.parts[:end])
            try:
                listed = await self._backend.listed(directory)
            except NOT_THERE:
                if not end:
                    return VERDICTS[Means.WORKSPACE_GONE]()
                if end == last:
                    continue
                break
            child = directory.child(path.parts[end])
            entry = next((one for one in listed if one.path == child), None)
            if entry is None:
                return VERDICTS[Means.PATH_NOT_FOUND]()
            entry = (await self._resolved([entry]))[0]
            is_directory = entry.kind is Kind.DIRECTORY
            if end < last and not is_directory:
                return VERDICTS[Means.NOT_A_DIRECTORY]()
            if end == last and is_directory is (operation is Operation.DOWNLOAD):
                wrong = Means.NOT_A_FILE if is_directory else Means.NOT_A_DIRECTORY
                return VERDICTS[wrong]()
        return VERDICTS[Means.NOT_READABLE]()

    async def _resolved(self, listed: Sequence[Entry]) -> Sequence[Entry]:
        """The same entries, with links told from files where the listing does not."""
        listing = self._backend.profile.list
        if listing is None or listing.links is Links.FOLLOWED:
            return listed
        resolved = list(listed)
        doubtful = iter([number for number, one in enumerate(listed) if _may_be_link(one)])

        async def ask() -> None:
            for number in doubtful:
                resolved[number] = await self._followed(listed[number])

        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(_AT_ONCE):
                    tasks.create_task(ask())
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed
        return resolved

    async def _followed(self, listed: Entry) -> Entry:
        try:
            found = await self._backend.stat(listed.path)
        except (*NOT_THERE, NotReadable):
            return listed._replace(kind=Kind.UNKNOWN, size=None, problem="not readable")
        is_link = (found.kind, found.size) != (listed.kind, listed.size)
        return found._replace(is_link=is_link)


def _may_be_link(entry: Entry) -> bool:
    """A link's own length is that of its target's path, so it is no longer than one."""
    if entry.problem or entry.kind is not Kind.FILE:
        return False
    return entry.size is None or 0 < entry.size <= LONGEST_PATH
