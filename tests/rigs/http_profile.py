"""Every profile that can list, on its real program or its double, and one profile of one's own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from gateway.config.secret import Secret
from gateway.executors.http_profile.config import HttpProfileConfig
from gateway.executors.http_profile.http_profile import HttpProfile
from tests import programs
from tests.doubles import aio as aio_double
from tests.doubles import odd_api
from tests.gateways import plant
from tests.rigs import Rig


@asynccontextmanager
async def reaching(
    tmp_path: Path, *, profile: str, url: str, token: str | None, root: str
) -> AsyncIterator[Rig]:
    """The executor on a backend for the workspaces in *tmp_path*."""
    workspaces = tmp_path / "workspaces"
    (workspaces / "s1").mkdir(parents=True)
    secret = None
    if token is not None:
        (tmp_path / "token").write_text(token)
        secret = Secret(file=str(tmp_path / "token"))
    config = HttpProfileConfig(
        type="http_profile",
        profile=profile,
        url=url,
        token=secret,
        shared="{workspace}" in root,
        root=root,
    )
    async with HttpProfile.running("http_profile", config) as executor:
        yield Rig(executor, "s1", partial(plant, workspaces / "s1"))


def below(tmp_path: Path) -> str:
    """The root on a server that has this host's files, and so all workspaces."""
    return f"{tmp_path}/workspaces/{{workspace}}"


@asynccontextmanager
async def sandbox_agent(tmp_path: Path) -> AsyncIterator[Rig]:
    url = programs.sandbox_agent()
    async with reaching(
        tmp_path, profile="sandbox-agent", url=url, token=programs.TOKEN, root=below(tmp_path)
    ) as rig:
        yield rig


@asynccontextmanager
async def open_terminal(tmp_path: Path) -> AsyncIterator[Rig]:
    url = programs.open_terminal()
    async with reaching(
        tmp_path, profile="open-terminal", url=url, token=programs.TOKEN, root=below(tmp_path)
    ) as rig:
        yield rig


@asynccontextmanager
async def aio(tmp_path: Path) -> AsyncIterator[Rig]:
    async with (
        aio_double.aio() as url,
        reaching(
            tmp_path, profile="aio", url=url, token=aio_double.TOKEN, root=below(tmp_path)
        ) as rig,
    ):
        yield rig


@asynccontextmanager
async def own(tmp_path: Path, *, archive: str) -> AsyncIterator[Rig]:
    """Each workspace at a URL of its own."""
    tmp_path.mkdir(exist_ok=True)
    file = tmp_path / "odd.yaml"
    file.write_text(odd_api.PROFILE + archive)
    async with (
        odd_api.odd_api(tmp_path / "workspaces") as url,
        reaching(
            tmp_path, profile=str(file), url=f"{url}/{{workspace}}", token=None, root="/data"
        ) as rig,
    ):
        yield rig


RIGS = {
    "sandbox-agent": sandbox_agent,
    "open-terminal": open_terminal,
    "aio": aio,
    "own": partial(own, archive=""),
    "tar": partial(own, archive=odd_api.ARCHIVE),
}
