"""The requests that Shannon's executor takes, and what its answers mean.

Source: Kocoro-lab/Shannon 0.5.1, rust/firecracker-executor. Every call but `health` boots a virtual
machine for the session and ends it afterwards; calls for one session wait for each other there. A
machine has 5 s to answer once it is up, whatever it was asked.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated

import orjson
from pydantic import ConfigDict, Field, TypeAdapter, with_config

from gateway.domain.errors import (
    GatewayError,
    NotADirectory,
    NotAFile,
    PathNotFound,
    Unavailable,
)
from gateway.domain.paths import WorkspacePath
from gateway.executors.engines.reply import Reply
from gateway.executors.engines.rest import Ask, RestEngine
from gateway.executors.firecracker.names import encoded, spelled
from gateway.executors.firecracker.pages import MOST_ENTRIES, Page, parse, seen_from
from gateway.executors.firecracker.verdicts import NO_DIRECTORY, NOT_FOUND, verdict

_MOST_OUTPUT = 8 * 1024 * 1024  # bytes of JSON around what the guest script writes
_PAGE_BYTES = 4 * 1024 * 1024
_PAGE_SECONDS = 2.5  # of the 5 s; starting Python and the way back need theirs
_TIMEOUT_S = 30
_STRICT = with_config(ConfigDict(strict=True))


@_STRICT
@dataclass(frozen=True, slots=True)
class _Output:
    success: bool
    stdout: str


@_STRICT
@dataclass(frozen=True, slots=True)
class PoolHealth:
    """What the executor says of itself."""

    status: str
    pool_size: Annotated[int, Field(ge=0, lt=2**31)]
    max_count: Annotated[int, Field(ge=0, lt=2**31)]


_OUTPUT = TypeAdapter(_Output)
_HEALTH = TypeAdapter(PoolHealth)


class Calls:
    """Asks for what lies in workspaces; *directory* holds them all, as the executor names it."""

    def __init__(self, engine: RestEngine, directory: str) -> None:
        self._engine = engine
        self._directory = directory.rstrip("/")
        self._guest = files(__package__).joinpath("guest.py").read_text(encoding="utf-8")

    async def health(self) -> PoolHealth:
        """What the executor says of itself; raise an `Outage` if it does not."""
        async with self._engine.ask(Ask("GET", "/health")) as reply:
            return await reply.json(_HEALTH, 64 * 1024)

    @asynccontextmanager
    async def content(self, workspace: str, path: WorkspacePath) -> AsyncIterator[Reply]:
        """The answer that holds the file at *path*; raises what `Executor.open` raises."""
        body = {**self._place(workspace), "file_path": spelled(path)}
        ask = Ask("POST", "/workspace/download", body=body)
        async with AsyncExitStack() as stack:
            try:
                answer = self._engine.ask(ask, refusals={404: _missing})
                reply = await stack.enter_async_context(answer)
            except PathNotFound:
                found = await self.look(workspace, path)
                if found in ("file", "other"):
                    raise Unavailable("the file changed while it was looked for") from None
                raise verdict(found, NotAFile("not a file")) from None
            yield reply

    async def page(
        self, workspace: str, path: WorkspacePath, depth: int, after: WorkspacePath | None
    ) -> Page:
        """What lies up to *depth* levels below *path* and behind *after*, or a first part of it.

        Raises what `Executor.walk` raises. The executor's own `/workspace/list` runs a program in a
        machine as well, but tells no times, and fails for one name that is not UTF-8.
        """
        spelled(path)
        output = await self._run(
            workspace,
            {
                "path": encoded(path),
                "depth": depth,
                "after": encoded(seen_from(path, after)),
                "entries": MOST_ENTRIES,
                "bytes": _PAGE_BYTES,
                "seconds": _PAGE_SECONDS,
            },
        )
        page = await self._engine.parsed(parse, path, after, depth, output)
        if page.word in ("end", "more"):
            return page
        raise verdict(page.word, NotADirectory(NO_DIRECTORY))

    @asynccontextmanager
    async def tar(
        self, workspace: str, path: WorkspacePath, depth: int, most: int, without: Sequence[str]
    ) -> AsyncIterator[Reply]:
        """The answer that holds the tar of the directory *path*, as the guest script packs it.

        *without* are paths in it, `encoded`, that are left out.
        """
        asked = {"path": encoded(path), "pack": most, "depth": depth, "without": without}
        async with self._engine.ask(self._execution(workspace, asked)) as reply:
            yield reply

    async def look(self, workspace: str, path: WorkspacePath) -> str:
        """What lies at *path*, in the guest script's word: 404 does not tell it."""
        output = await self._run(workspace, {"path": encoded(path), "depth": 0})
        return parse(path, None, 0, output).word

    async def _run(self, workspace: str, asked: Mapping[str, object]) -> str:
        """What the guest script writes when *asked*; a batch in one life of a machine."""
        async with self._engine.ask(self._execution(workspace, asked)) as reply:
            output = await reply.json(_OUTPUT, _MOST_OUTPUT)
        if not output.success:
            raise Unavailable("the executor failed")
        return output.stdout

    def _execution(self, workspace: str, asked: Mapping[str, object]) -> Ask:
        body = {
            **self._place(workspace),
            "code": self._guest,
            "stdin": orjson.dumps(asked).decode(),
            "timeout_seconds": _TIMEOUT_S,
        }
        return Ask("POST", "/execute", body=body)

    def _place(self, workspace: str) -> dict[str, object]:
        path = f"{self._directory}/{workspace}"
        return {"session_id": workspace, "workspace_path": path}


def _missing() -> GatewayError:
    """What 404 says: nothing there, or something of the wrong kind, or no such workspace."""
    return PathNotFound(NOT_FOUND)
