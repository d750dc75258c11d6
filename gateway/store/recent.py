"""What was looked up a moment ago, so that a busy gateway need not ask again for each request."""

from collections.abc import Awaitable, Callable, Hashable
from time import monotonic
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_FRESH_S = 0.5
"""Who looks every now and then, as streams do, is to know within a second all the same."""

_MOST = 4096


class Recent(Generic[K, V]):
    """Answers that are at most half a second old; that nothing was found is not remembered."""

    def __init__(self) -> None:
        self._found: dict[K, tuple[float, V]] = {}
        self._forgotten = 0

    async def get(
        self,
        key: K,
        look_up: Callable[[], Awaitable[V | None]],
        keep: Callable[[V], bool] = lambda _: True,
    ) -> V | None:
        """What is known of *key*, or what *look_up* gives; what is not to *keep* is not known."""
        # Before the question is asked: the answer may be as old as that when it comes.
        asked, forgotten = monotonic(), self._forgotten
        known = self._found.get(key)
        if known is not None and asked < known[0] + _FRESH_S:
            return known[1]
        value = await look_up()
        if value is not None and keep(value) and forgotten == self._forgotten:
            self._found.pop(key, None)
            if len(self._found) >= _MOST:
                del self._found[next(iter(self._found))]
            self._found[key] = asked, value
        return value

    def forget(self) -> None:
        """Forget everything, what is being looked up now included: this process has written."""
        self._forgotten += 1
        self._found.clear()
