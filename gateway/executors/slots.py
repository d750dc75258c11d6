"""How many calls an executor, and one workspace of it, get at once."""

from asyncio import Semaphore


class Slots:
    """At most *most* calls at once, and *per_workspace* of one workspace; the others wait."""

    def __init__(self, most: int, per_workspace: int | None) -> None:
        self._all = Semaphore(most)
        self._per_workspace = per_workspace
        self._of: dict[str, tuple[Semaphore, int]] = {}

    async def acquire(self, workspace: str) -> None:
        """Wait for a slot; `release` gives it back."""
        if self._per_workspace is not None:
            # First the workspace's: whoever waits for it must not keep others from working.
            semaphore, users = self._of.get(workspace) or (Semaphore(self._per_workspace), 0)
            self._of[workspace] = semaphore, users + 1
            try:
                await semaphore.acquire()
            except BaseException:
                self._forget(workspace)
                raise
        try:
            await self._all.acquire()
        except BaseException:
            self._release_workspace(workspace)
            raise

    def release(self, workspace: str) -> None:
        """Give a slot back."""
        self._all.release()
        self._release_workspace(workspace)

    def _release_workspace(self, workspace: str) -> None:
        if self._per_workspace is not None:
            self._of[workspace][0].release()
            self._forget(workspace)

    def _forget(self, workspace: str) -> None:
        semaphore, users = self._of[workspace]
        if users == 1:
            del self._of[workspace]
        else:
            self._of[workspace] = semaphore, users - 1
