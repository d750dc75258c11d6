"""Context managers that stand for another one."""

from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TypeVar

T_co = TypeVar("T_co", covariant=True)


class Around(AbstractAsyncContextManager[T_co]):
    """Left by leaving *inner*, which its own `__aenter__` has entered."""

    inner: AbstractAsyncContextManager[object]

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.inner.__aexit__(kind, exc, trace)
