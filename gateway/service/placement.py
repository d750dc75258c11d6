"""Which executor, or chain of executors, a session is on."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from gateway.domain.model import SessionId
from gateway.executors.base import Executor


class Placement:
    """The first of *rules*, shell patterns of session ids, that matches; else *default*."""

    def __init__(self, default: Executor, rules: Sequence[tuple[str, Executor]] = ()) -> None:
        self._default = default
        self._rules = rules

    def executor_of(self, session_id: SessionId) -> Executor:
        """The executor to ask about the session."""
        for pattern, executor in self._rules:
            if fnmatchcase(session_id, pattern):
                return executor
        return self._default
