"""The member that tells what was left out of an archive."""

from hashlib import blake2b

import orjson

from gateway.domain.archives import Member, Skipped
from gateway.domain.paths import WorkspacePath

NAME = b".workspace-manifest.json"
_MOST_BYTES = 512 << 10  # of paths: it is read and packed in one piece


def manifest_of(entries: int, skipped: Skipped) -> bytes:
    """JSON: how many entries there are beside it, and how many were skipped, with their paths.

    `truncated` says that there are not the paths of all.
    """
    paths: list[str] = []
    left = _MOST_BYTES
    for parts in skipped.paths:
        path = WorkspacePath(parts).relative
        left -= len(orjson.dumps(path))
        if left < 0:
            break
        paths.append(path)
    said = {
        "entries": entries,
        "skipped": skipped.count,
        "paths": paths,
        "truncated": len(paths) < skipped.count,
    }
    return orjson.dumps(said, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def member_of(manifest: bytes) -> Member:
    """It as a member of the archive, whatever else is called like it."""
    version = blake2b(manifest, digest_size=16).hexdigest()
    return Member((NAME,), False, len(manifest), None, 0o644, version)
