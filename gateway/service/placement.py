"""Which executor, or chain of executors, a session is on."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from gateway.domain.errors import Unavailable
from gateway.domain.model import SessionId
from gateway.executors.base import Executor


class Placement:
    """The first of *rules*, shell patterns of session ids, that matches; else *default*.

    Sessions that name their executor find it in *named*.
    """

    def __init__(
        self,
        default: Executor,
        rules: Sequence[tuple[str, Executor]] = (),
        named: Mapping[str, Executor] | None = None,
    ) -> None:
        self._default = default
        self._rules = rules
        self._named = named or {}

    def executor_of(self, session_id: SessionId, name: str | None = None) -> Executor:
        """The executor to ask about the session, which *name* overrides.

        Raises `Unavailable` if the config no longer has that one.
        """
        if name is not None:
            if name not in self._named:
                raise Unavailable("the executor of the session is not configured")
            return self._named[name]
        for pattern, executor in self._rules:
            if fnmatchcase(session_id, pattern):
                return executor
        return self._default
