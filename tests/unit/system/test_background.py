"""Work that has to go on, whatever happens to it."""

import asyncio
from contextlib import suppress

from structlog.testing import capture_logs

from gateway.system.background import Background


async def test_work_that_fails_is_told_and_begun_anew() -> None:
    background, begun = Background(), []

    async def work() -> None:
        begun.append(background.failing)
        if len(begun) == 1:
            raise RuntimeError("the reason")

    with capture_logs() as logs:
        await asyncio.wait_for(background.keep("some", work), 10)

    assert begun == [[], ["some"]]
    assert background.failing == ["some"]
    assert [(line["event"], line["work"], line["log_level"]) for line in logs] == [
        ("background_work_failed", "some", "error")
    ]


async def test_work_that_fails_at_once_is_not_begun_again_and_again() -> None:
    background, begun = Background(), []

    async def work() -> None:
        begun.append(None)
        raise RuntimeError

    with suppress(TimeoutError), capture_logs():
        await asyncio.wait_for(background.keep("some", work), 3.5)

    assert len(begun) <= 3


async def test_work_can_be_cancelled() -> None:
    background = Background()
    working = asyncio.create_task(background.keep("some", asyncio.Event().wait))
    await asyncio.sleep(0)

    working.cancel()
    await asyncio.wait([working])

    assert working.cancelled()
    assert background.failing == []
