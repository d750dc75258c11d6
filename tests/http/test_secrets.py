"""What is secret of a session reaches the executor that makes its workspace, and nothing else."""

import io
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import ClassVar, Literal

import pytest
import structlog

from gateway.config.model import ExecutorConfig
from gateway.executors import registry
from gateway.executors.base import Sandbox
from gateway.executors.local.local import Local, LocalConfig
from tests.gateways import running
from tests.http.asking import SESSIONS, read, send, with_agents
from tests.stores import contents

CANARY = "c4n4ry"


class KeepingConfig(LocalConfig):
    """As the local one's."""

    type: Literal["keeping"]


class Keeping(Local):
    """Remembers what it was given; fails when a secret says so."""

    Config: ClassVar[type[ExecutorConfig]] = KeepingConfig
    given: ClassVar[list[Sandbox]] = []

    @classmethod
    @asynccontextmanager
    async def running(cls, name: str, config: KeepingConfig) -> AsyncIterator["Keeping"]:
        async with super().running(name, config) as executor:
            yield executor

    async def provision(self, sandbox: Sandbox) -> str:
        self.given.append(sandbox)
        if "OTHER" in sandbox.secrets:
            raise RuntimeError(f"cannot start {sandbox}")
        return await super().provision(sandbox)


@pytest.fixture
def keeping(root: Path) -> Iterator[dict[str, object]]:
    """The config's executors."""
    registry._places()["keeping"] = f"{__name__}:Keeping"
    Keeping.given.clear()
    yield {"local": {"type": "keeping", "root": str(root)}}
    del registry._places()["keeping"]


@contextmanager
def everything_logged() -> Iterator[io.StringIO]:
    """Every record of every logger, at every level."""
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s %(args)s"))
    loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    logging.root.addHandler(handler)
    old = structlog.get_config()
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.PrintLoggerFactory(said),
        cache_logger_on_first_use=False,
    )
    try:
        yield said
    finally:
        structlog.configure(**old)
        logging.root.removeHandler(handler)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def body(**secrets: str) -> dict[str, object]:
    return {"secrets": secrets, "llm_api_key": f"{CANARY}-model", "metadata": {"kind": "x"}}


async def test_a_secret_is_given_away_once_and_kept_nowhere(
    root: Path, keeping: dict[str, object], each_store: str
) -> None:
    bodies = [
        body(GITHUB_TOKEN=f"{CANARY}-1", UNDECLARED=f"{CANARY}-2"),
        body(OTHER=f"{CANARY}-3"),
        {**body(GITHUB_TOKEN=f"{CANARY}-4"), "name": 1},
        {"secrets": {"lower": f"{CANARY}-5"}},
        {"secrets": {"A": [f"{CANARY}-6"]}},
        {"secrets": f"{CANARY}-7"},
        {"secrets": {"A": f"{CANARY}-8\0"}},
        {"llm_api_key": [f"{CANARY}-9"]},
    ]
    with everything_logged() as said:
        async with running(root, with_agents(executors=keeping)) as gateway:
            answers = [await send(gateway, SESSIONS, one) for one in bodies]
            broken = f'{{"secrets":{{"A":"{CANARY}"}}'.encode()
            answers.append(await send(gateway, SESSIONS, broken))
            answers += [
                await read(gateway, target)
                for target in (
                    "/v1/sessions",
                    SESSIONS,
                    f"/v1/sessions/{answers[0].json['id']}",
                    f"/api/v1/sessions/{answers[0].json['id']}/files",
                )
            ]
            stored = contents(each_store)
        stored += contents(each_store)

    assert [answer.status for answer in answers] == [201, 502, *[400] * 7, *[200] * 4]
    assert [one.secrets for one in Keeping.given] == [
        {"GITHUB_TOKEN": f"{CANARY}-1"},
        {"OTHER": f"{CANARY}-3"},
    ]
    assert b"agt_123" in stored
    assert CANARY.encode() not in stored
    assert "audit.session_created" in said.getvalue()
    assert "executor_fault" in said.getvalue()
    assert CANARY not in said.getvalue()
    for answer in answers:
        assert CANARY.encode() not in answer.body
        assert CANARY not in str(answer.headers)
