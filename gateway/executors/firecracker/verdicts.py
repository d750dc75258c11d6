"""What it means for a client that the guest script found this or that."""

from typing import Final

from gateway.domain.errors import (
    LINK_LEAVES,
    GatewayError,
    NotADirectory,
    PathNotFound,
    PathRefused,
    ProtocolFault,
    Unavailable,
    WorkspaceGone,
)

GONE: Final = "the executor has nothing of this session"
NOT_FOUND: Final = "file not found"
NO_DIRECTORY: Final = "not a directory"


def verdict(found: str, wrong_kind: GatewayError) -> GatewayError:
    """What it means for the client that the guest script found that."""
    match found:
        case "empty":
            return WorkspaceGone(GONE)
        case "missing":
            return PathNotFound(NOT_FOUND)
        case "blocked":
            return NotADirectory(NO_DIRECTORY)
        case "leaves" | "loops":
            return PathRefused(LINK_LEAVES)
        case "file" | "directory" | "other":
            return wrong_kind
        case "unreadable":
            return Unavailable("the executor cannot read the directory")
        case _:
            return ProtocolFault("the executor's answer has an unexpected form")
