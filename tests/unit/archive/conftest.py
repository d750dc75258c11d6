"""Helper processes for all tests of a file: nothing about them belongs to one archive."""

import asyncio
from collections.abc import Iterator

import pytest

from gateway.archive.helpers import Helpers
from tests.unit.archive.processes import children, started


@pytest.fixture(scope="module")
def helpers() -> Iterator[Helpers]:
    """Two that have started, so that they open nothing more while a test counts."""
    before = children()
    running = Helpers.running(2)
    with asyncio.Runner() as runner:
        helpers = runner.run(running.__aenter__())
        runner.run(started(2, before))
        yield helpers
        runner.run(running.__aexit__(None, None, None))
