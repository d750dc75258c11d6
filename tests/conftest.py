"""Fixtures that several floors of tests share."""

import asyncio
import errno
import gc
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
import structlog
import uvloop
from hypothesis import HealthCheck, settings

from tests import gateways, needs, seccomp, stores
from tests.gateways import Gateway, resolved_by, running

# On top of what is in force, CI or not: an example is slow when the machine is busy.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Test on the loop that the gateway runs on."""
    return {"uvloop": uvloop.new_event_loop}


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: many tests wait for a deadline."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_finish() -> None:
    """Let `gc.collect`, which tests of leaks call often, not go through all the tests each time."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def own_signals() -> Iterator[None]:
    """Those that end a program end the ones that tests start, also where the tests themselves run
    in the background or by `nohup`: what is handled here is as usual there, what is ignored is not.
    """
    ignored = [n for n in (signal.SIGHUP, signal.SIGINT) if signal.getsignal(n) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, lambda *_: None)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture(scope="session", autouse=True)
def no_io_uring() -> None:
    """As in the units of `deploy/systemd`, for tests and gateways alike.

    libuv changes its epoll set by it, and a change has been seen to get lost: the loop then spins.
    """
    seccomp.deny(seccomp.IO_URING_SETUP, errno.EPERM)


@pytest.fixture(scope="session", autouse=True)
def plain_log() -> None:
    """What gateways say inside the test's own process, without the work of laying it out."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["level", "event"]),
        ]
    )


@pytest.fixture(scope="session", autouse=True)
def own_directories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache and a state of this run's own, for gateways whose config says nothing else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


ResolverName = Literal["openat2", "components"]


@pytest.fixture(params=["openat2", "components"])
def resolver(request: pytest.FixtureRequest) -> ResolverName:
    """Each way of resolving paths that there is; `local.resolver` forces it."""
    name: ResolverName = request.param
    if name == "openat2":
        needs.openat2()
    return name


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The directory of the workspaces; one workspace, `s1`, is there and empty."""
    path = tmp_path / "workspaces"
    (path / "s1").mkdir(parents=True)
    return path


@pytest.fixture(params=["sqlite", "postgres"])
def each_store(request: pytest.FixtureRequest, root: Path) -> Iterator[str]:
    """Gateways on *root* keep what they know in each kind of store; the address of that."""
    if request.param == "postgres":
        gateways.STORES[str(root)] = stores.address_of(request.param, root)
    yield gateways.store_address(root)
    gateways.STORES.pop(str(root), None)


@pytest.fixture
async def gateway(root: Path, resolver: ResolverName) -> AsyncIterator[Gateway]:
    """A gateway on *root*, once for each resolver."""
    async with running(root, resolved_by(resolver)) as running_gateway:
        yield running_gateway
