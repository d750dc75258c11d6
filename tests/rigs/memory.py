"""The executor whose workspaces are in memory."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.doubles.memory import Memory, MemoryConfig, Workspace
from tests.gateways import Files
from tests.rigs import Rig


@asynccontextmanager
async def running(tmp_path: Path) -> AsyncIterator[Rig]:
    async with Memory.running("memory", MemoryConfig(type="memory")) as executor:
        workspace = executor.workspaces["s1"] = Workspace()

        def plant(files: Files) -> None:
            for name, content in files.items():
                path = os.fsencode(name)
                if content is None:
                    workspace.make_directory(path)
                elif isinstance(content, str):
                    workspace.link(path, os.fsencode(content))
                else:
                    workspace.write(path, content)

        yield Rig(executor, "s1", plant)
