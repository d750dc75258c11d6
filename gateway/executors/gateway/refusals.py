"""What another gateway's error answers mean here; its own words are never passed on."""

import re
from collections.abc import Callable, Mapping
from functools import partial

from gateway.domain.errors import (
    AlreadyExists,
    ArchiveFailed,
    Busy,
    FileTooLarge,
    GatewayError,
    NotADirectory,
    NotAFile,
    NotReadable,
    PathNotFound,
    PathRefused,
    ProtocolFault,
    TooLarge,
    TooManyRequests,
    Unsupported,
    WorkspaceGone,
)
from gateway.executors.engines.reply import Reply
from gateway.executors.engines.rest import refusal as unknown

VERDICT_HEADER = "X-Workspace-Verdict"
LIMIT_HEADER = "X-Workspace-Limit"

_LONGEST_BODY = 64 * 1024  # bytes; read so that the connection can be used again

_CHANGED = "the archive could not be made: the workspace changed"

_RETRY_AFTER_S = 5

_BYTES = re.compile("[0-9]{1,18}")

_FILE_TOO_LARGE = partial(TooLarge, "file exceeds maximum size limit of its executor")

Refusals = Mapping[tuple[int, str], Callable[[], GatewayError]]
"""By status and verdict; any other pair is no answer that a gateway gives."""

REFUSALS: Refusals = {
    (400, "bad_parameter"): partial(Unsupported, "the executor's limits do not allow that"),
    (400, "not_a_directory"): partial(NotADirectory, "not a directory"),
    (400, "not_a_file"): partial(NotAFile, "not a file"),
    # What a client may not ask for at all has been refused here already; this is what is left.
    (400, "path_refused"): partial(PathRefused, "invalid path: symbolic link leaves the workspace"),
    (404, "not_readable"): partial(NotReadable, "file not readable"),
    (404, "path_not_found"): partial(PathNotFound, "file not found"),
    (404, "session_not_found"): partial(WorkspaceGone, "session not found"),
    (409, "already_exists"): partial(AlreadyExists, "session: its executor has no place for it"),
    (412, "precondition_failed"): partial(ProtocolFault, "the file changed while it was read"),
    (413, "too_large"): _FILE_TOO_LARGE,
    (503, "busy"): partial(Busy, "the executor has too much to do"),
}

ARCHIVE_REFUSALS: Refusals = {
    **REFUSALS,
    # Without a verdict, as of any path that no gateway knows: it is older than archives are.
    (404, ""): partial(Unsupported, "the executor makes no archives"),
    (412, "precondition_failed"): partial(ArchiveFailed, _CHANGED),
    (413, "too_large"): partial(TooLarge, "archive exceeds the limits of its executor"),
    (429, "too_many_requests"): partial(
        TooManyRequests, "archives_at_once", "too many archives are under way", _RETRY_AFTER_S
    ),
    (500, "archive_failed"): partial(ArchiveFailed, "the archive could not be made"),
}
"""The same for the archive's route."""


async def refusal(reply: Reply, refusals: Refusals) -> GatewayError:
    """The error that *reply*, whose status is one of those in *refusals*, stands for."""
    verdict = reply.headers.get(VERDICT_HEADER, "")
    known = refusals.get((reply.status, verdict))
    if known is None:
        error = unknown(reply.status)
        error.__cause__ = ValueError(f"status {reply.status}, verdict {verdict[:40]!a}")
        return error
    await reply.body(_LONGEST_BODY)
    limit = reply.headers.get(LIMIT_HEADER, "")
    if known is _FILE_TOO_LARGE and _BYTES.fullmatch(limit):
        return FileTooLarge(int(limit))
    return known()
