"""Has archives made once, whoever asks for them, and gives each reader what is there."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Self

import structlog

from gateway.archive.bodies import Source
from gateway.archive.build import build
from gateway.archive.counting import counted
from gateway.archive.direct import Direct
from gateway.archive.helpers import Helpers
from gateway.archive.plan import Plan, planned
from gateway.archive.spool import Begun, Growing, Spool, Spooled
from gateway.domain.archives import Member, Packing, Skipped
from gateway.domain.errors import GatewayError, StreamBroken, TooManyRequests, Unavailable
from gateway.system.pool import Pool
from gateway.telemetry import metrics

log = structlog.get_logger()

_PLANNERS = 2  # compete with the loop for the GIL
_READERS = 8  # wait for the disk
_LONGEST_S = 3600.0
_RETRY_AFTER_S = 5
_PAUSE_S = 0.005
_LOOK_S = 0.05  # how often it is seen whether an archive is still followed


@dataclass(frozen=True, slots=True)
class Obtained:
    """An archive, and where it comes from: `hit`, `follow`, `miss` or `bypass`.

    It is the caller's to enter. If this process makes it, into the spool, *build* is that: it
    raises why it fails.
    """

    result: str
    made: Spooled | Direct
    build: asyncio.Task[None] | None = None


class Archiver:
    """Builds archives into the spool, at most *most_builds* at a time in this process.

    A build goes on when its reader leaves: the next one finds it done. An archive that goes
    straight to its reader is made as long as it is entered. None takes more than *longest_s* to
    make. What is not in memory is to be read in the pool *readers*.
    """

    def __init__(self, helpers: Helpers, spool: Spool, most_builds: int, longest_s: float) -> None:
        self._helpers = helpers
        self._spool = spool
        self._most_builds = most_builds
        self._longest_s = longest_s
        self._planners = Pool("archive-plan", _PLANNERS)
        self.readers = Pool("archive-read", _READERS)
        self._builds: dict[asyncio.Task[None], Growing] = {}
        self._straight = 0  # archives that go past the spool

    @classmethod
    @asynccontextmanager
    async def running(
        cls,
        directory: str,
        most_bytes: int,
        *,
        processes: int,
        most_builds: int,
        longest_s: float = _LONGEST_S,
    ) -> AsyncIterator[Self]:
        """Start; leaving ends what is being built. Raises `Unavailable` for an unusable spool."""
        async with (
            Spool.running(directory, most_bytes) as spool,
            Helpers.running(processes) as helpers,
        ):
            archiver = cls(helpers, spool, most_builds, longest_s)
            try:
                yield archiver
            finally:
                await archiver._end()

    async def finish(self, limit_s: float) -> None:
        """Let builds go on as long as somebody follows them, at most *limit_s*; end the others.

        Those who follow may be other processes, or a config that has come into force since.
        """
        try:
            async with asyncio.timeout(limit_s), asyncio.TaskGroup() as following:
                for task, growing in self._builds.items():
                    following.create_task(_followed(task, growing))
        except TimeoutError:
            log.warning("archives_given_up", count=len(self._builds), hint="server.drain is over")
            self.abort()

    def abort(self) -> None:
        """End every build now."""
        for task in self._builds:
            task.cancel()

    async def check(self) -> None:
        """Return if the spool can be used, else raise `Unavailable`: archives are not kept then."""
        await self._spool.check()

    async def plan(
        self,
        origin: str,
        packing: Packing,
        members: Sequence[Member],
        skipped: Skipped | None = None,
    ) -> Plan:
        """Plan an archive of what *origin* has; see `plan.planned`."""
        planning = self._planners.submit(planned, origin, packing, members, skipped)
        return await asyncio.wrap_future(planning)

    async def length(self, plan: Plan) -> int | None:
        """How long the archive is, if that can be told without making it."""
        if plan.size is not None:
            return plan.size
        try:
            found = await self._spool.find(plan.key)
        except Unavailable as exc:
            log.error("spool_unusable", reason=exc.message)
            return None
        if found is None:
            return None
        async with found:
            return found.size if found.is_complete else None

    async def obtain(self, plan: Plan, source: Source, owner: AsyncExitStack) -> Obtained:
        """Find the archive, or begin to make it.

        Where a build begins, it takes over what *owner* holds and frees that at its end. Raises
        `TooManyRequests`.
        """
        obtained = await self._obtained(plan, source, owner)
        metrics.SPOOL_REQUESTS.labels(obtained.result).inc()
        return obtained

    async def _obtained(self, plan: Plan, source: Source, owner: AsyncExitStack) -> Obtained:
        try:
            while True:
                found = await self._spool.find(plan.key)
                if found is not None:
                    result = "hit" if found.is_complete else "follow"
                    return Obtained(result, found, self._build_of(plan.key))
                self._check_room()  # before anything is evicted
                try:
                    growing = await self._spool.begin(plan.key, plan.most)
                    break
                except Begun:  # and perhaps given up again
                    await asyncio.sleep(_PAUSE_S)
            if growing is not None:
                return await self._begun(plan, source, owner, growing)
        except Unavailable as exc:
            log.error("spool_unusable", reason=exc.message)
        self._check_room()
        going = self._going_straight()
        direct = Direct(plan, source, self._helpers, going, self._longest_s)
        return Obtained("bypass", direct)

    async def _begun(
        self, plan: Plan, source: Source, owner: AsyncExitStack, growing: Growing
    ) -> Obtained:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(growing)
            self._check_room()
            # Before the first byte is there, so that the entry cannot be evicted any more.
            found = await self._spool.find(plan.key)
            if found is None:
                raise Unavailable("somebody removes files from the spool")
            stack.push_async_exit(owner.pop_all())
            task = asyncio.create_task(self._build(plan, source, growing, stack.pop_all()))
            self._builds[task] = growing
            task.add_done_callback(self._built)
        return Obtained("miss", found, task)

    def _check_room(self) -> None:
        if len(self._builds) + self._straight >= self._most_builds:
            raise TooManyRequests(
                "archives_at_once", "too many archives are being made", _RETRY_AFTER_S
            )

    async def _build(
        self, plan: Plan, source: Source, growing: Growing, owner: AsyncExitStack
    ) -> None:
        try:
            with counted(plan):
                async with owner, asyncio.timeout(self._longest_s):
                    await build(plan, source, self._helpers, growing)
                    await growing.finish()
        finally:
            await self._measure()

    @contextmanager
    def _going_straight(self) -> Iterator[None]:
        self._straight += 1
        try:
            yield
        finally:
            self._straight -= 1

    async def _measure(self) -> None:
        try:
            metrics.SPOOL_BYTES.set(await self._spool.used())
        except Unavailable as exc:
            log.error("spool_unusable", reason=exc.message)

    def _build_of(self, key: str) -> asyncio.Task[None] | None:
        return next((task for task, made in self._builds.items() if made.key == key), None)

    def _built(self, task: asyncio.Task[None]) -> None:
        key = self._builds.pop(task).key
        if task.cancelled() or (failure := task.exception()) is None:
            return
        if isinstance(failure, (StreamBroken, GatewayError, TimeoutError)):
            cause = repr(failure.__cause__)
            log.warning("archive_failed", key=key, reason=str(failure), cause=cause)
        else:
            log.error("archive_failed", key=key, exc_info=failure)

    async def _end(self) -> None:
        self.abort()
        await asyncio.gather(*self._builds, return_exceptions=True)
        for pool in (self._planners, self.readers):
            pool.shutdown(wait=False, cancel_futures=True)


async def _followed(task: asyncio.Task[None], growing: Growing) -> None:
    """Wait until the build has ended, or nobody follows what it makes; then end it."""
    while not await growing.withdraw():
        if (await asyncio.wait((task,), timeout=_LOOK_S))[0]:
            return
    task.cancel()
