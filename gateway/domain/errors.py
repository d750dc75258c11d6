"""Everything that can go wrong, as verdicts; which status a verdict has is `http.errors`' business.

GatewayError
  RequestRefused            the request itself cannot be served, whatever the workspace holds
    BadParameter            a query parameter or header that is wrong
    BadSessionId            not an id at all
    PathRefused             traversal, absolute, NUL, not UTF-8, too long, a link that leaves
    CredentialsRejected     missing, malformed, unknown, expired: one verdict
    ScopeMissing            a good key that may not do this
    AlreadyExists           what is to be made is there already
    LinkNotFound            unknown, expired, used up, revoked: one verdict
    RetryLater              not now; carries when to come back
      TooManyRequests       over a rate
      WorkspaceChanged      it was written to while an archive of it was made
      StoreUnavailable      sessions and keys cannot be looked up
      IdentityUnavailable   whether a token is good cannot be told
  Verdict                   an authoritative answer about the workspace: never falls back
    SessionNotFound         no such session
    AgentNotFound           no such agent in the config
    NoWorkspace             a session that is known, without a workspace so far
    ForeignSession          a session this key may not see
    PathNotFound            nothing at that path
    NotAFile                a directory where a file is needed
    NotADirectory           a file where a directory is needed
    NotReadable             a FIFO, socket or device, or no permission to read
    TooLarge                over a limit
      FileTooLarge          a file; carries the limit, in bytes
  Outage                    not an answer: another executor may know better
    WorkspaceGone           the backend no longer has, or never had, the workspace
    Unavailable             the executor cannot do its work
      Unreachable           there is no connection to it
      Busy                  all its slots are taken, or all the room for its files
      CircuitOpen           it has failed so often that it is left alone for a while
    TimedOut                no answer in time
    ProtocolFault           an answer that breaks the backend's own rules
    AuthRejected            the backend does not accept the gateway's credential
    Unsupported             the backend has no way to do that
  ArchiveFailed             the archive could not be made, whatever the workspace holds
  StoreUnusable             what the config names as the store cannot be one; only at the start

StreamBroken                after the first byte; not a GatewayError, so nothing can render it
"""

from typing import ClassVar, Final

from gateway.domain.sizes import size_text

LINK_LEAVES: Final = "invalid path: symbolic link leaves the workspace"
"""What `PathRefused` says of such a link in every dialect, whoever finds it."""


class GatewayError(Exception):
    """The root of what may be rendered; `message` is written for the client.

    *source* names the executor whose answer it is, if it is one's; *fallback* is the code of the
    `Outage` why an earlier one in the chain gave none.
    """

    source: str | None = None
    fallback: str | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class RequestRefused(GatewayError):
    """The request itself cannot be served."""


class BadParameter(RequestRefused):
    """A query parameter or header that is wrong; the message names it."""


class BadSessionId(RequestRefused):
    """The session id is not of the form `[A-Za-z0-9][A-Za-z0-9_-]{0,127}`."""


class PathRefused(RequestRefused):
    """A path that is never looked up, or a link on the way that leaves the workspace."""


class CredentialsRejected(RequestRefused):
    """No valid credential; *reason* is for logs and metrics only, the client is not told."""

    def __init__(self, reason: str) -> None:
        super().__init__("missing or invalid credentials")
        self.reason = reason


class ScopeMissing(RequestRefused):
    """The key is good, but may not do this."""


class AlreadyExists(RequestRefused):
    """What is to be made is there already; the message names what of it is taken."""


class LinkNotFound(RequestRefused):
    """No link that can be used, for whatever reason: nobody is told which."""

    def __init__(self) -> None:
        super().__init__("no such link")


class RetryLater(RequestRefused):
    """Not now; *retry_after_s* says when it is worth another try."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TooManyRequests(RetryLater):
    """Over a rate limit; *limit* names it for logs and metrics."""

    def __init__(self, limit: str, message: str, retry_after_s: int) -> None:
        super().__init__(message, retry_after_s)
        self.limit = limit


class WorkspaceChanged(RetryLater):
    """It was written to while an archive of it was made; the next one may be luckier."""

    def __init__(self) -> None:
        super().__init__("the workspace changed while the archive was made", 1)


class StoreUnavailable(RetryLater):
    """The store does not answer; its cause is for logs only, the client is not told."""

    def __init__(self) -> None:
        super().__init__("the store is not available", retry_after_s=1)


class IdentityUnavailable(RetryLater):
    """Whether a token is good cannot be told now: no keys of its issuer are at hand."""


class Verdict(GatewayError):
    """An authoritative answer about a workspace; falling back would hide it."""


class SessionNotFound(Verdict):
    """There is no such session."""


class ForeignSession(Verdict):
    """The session exists, but not for this key."""


class AgentNotFound(Verdict):
    """The config has no such agent."""


class NoWorkspace(Verdict):
    """The session is registered, but nobody has its workspace: not yet, or not any more."""


class PathNotFound(Verdict):
    """There is nothing at that path."""


class NotAFile(Verdict):
    """A directory where a file is needed."""


class NotADirectory(Verdict):
    """A file where a directory is needed."""


class NotReadable(Verdict):
    """Not a regular file (FIFO, socket, device), or the gateway may not read it."""


class TooLarge(Verdict):
    """Over a limit; the message names it."""


class FileTooLarge(TooLarge):
    """A file of more than *limit* bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"file exceeds maximum size limit ({size_text(limit)})")
        self.limit = limit


class Outage(GatewayError):
    """The executor gave no answer; the next one in the chain may have one.

    *code* names it in `X-Workspace-Fallback`, logs and metrics.
    """

    code: ClassVar[str] = "outage"


class WorkspaceGone(Outage):
    """The backend has no such workspace; a copy may be elsewhere."""

    code = "gone"


class Unavailable(Outage):
    """The executor cannot do its work."""

    code = "unavailable"


class Unreachable(Unavailable):
    """There is no connection to the executor; no workspace can have caused that."""

    code = "unreachable"


class Busy(Unavailable):
    """No slot of the executor became free in time, or no room for what it sends."""

    code = "busy"


class CircuitOpen(Unavailable):
    """The executor failed too often lately to be asked again already."""

    code = "circuit_open"


class TimedOut(Outage):
    """The executor was asked and did not answer in time."""

    code = "timeout"


class ProtocolFault(Outage):
    """The backend's answer breaks its own protocol, so that nothing of it can be believed."""

    code = "protocol"


class AuthRejected(Outage):
    """The backend refuses the credential that the gateway has for it."""

    code = "auth"


class Unsupported(Outage):
    """The executor cannot do this for any workspace."""

    code = "unsupported"


class ArchiveFailed(GatewayError):
    """The archive could not be made here; the message says why."""


class StoreUnusable(GatewayError):
    """The gateway cannot start with this store; the message is for whoever starts it."""


class StreamBroken(Exception):
    """The body cannot be completed; the connection is reset and nothing else is said."""
