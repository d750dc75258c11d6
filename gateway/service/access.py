"""Who may do what with which session."""

from gateway.domain.errors import ForeignSession
from gateway.domain.model import Principal, Scope, SessionId


def authorize(
    principal: Principal, session_id: SessionId, scope: Scope, org: str | None = None
) -> None:
    """Raise `ScopeMissing` or `ForeignSession` unless *principal* may use *scope* there.

    *org*: whose the session is; None: whoever's asks.
    """
    principal.require(scope)
    if org not in (None, principal.org) or not principal.may_see(session_id):
        # The words of SessionNotFound: whether it exists is not told.
        raise ForeignSession("session not found")
