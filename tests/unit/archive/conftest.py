"""Helper processes for all tests of a file: nothing about them belongs to one archive."""

from collections.abc import AsyncIterator

import pytest_asyncio

from gateway.archive.helpers import Helpers


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def helpers() -> AsyncIterator[Helpers]:
    async with Helpers.running(2) as running:
        yield running
