"""Answers that carry an archive: judged before it is made, resumed once it is whole."""

from aiohttp import HttpVersion11, web

from gateway.domain.archives import Format, Packing
from gateway.domain.errors import BadParameter
from gateway.executors.streams import EVERYTHING, NOTHING, ArchiveStream, Wanted
from gateway.http.answers import Answer, Response
from gateway.http.conditions import etag_of
from gateway.http.context import EXCHANGE
from gateway.http.disposition import attachment
from gateway.http.ranges import asks_for_part
from gateway.http.responses import (
    WORKSPACE_HEADERS,
    not_modified,
    range_counts,
    ranges_asked,
    send_body,
    wanted,
)

_JUDGED = ("If-Match", "If-None-Match", "Range")


def archive_wanted(request: web.BaseRequest) -> Wanted:
    """What of an archive *request* will most likely read: nothing before it has been judged."""
    asked = wanted(request)
    is_judged = any(name in request.headers for name in _JUDGED)
    if request.method == "HEAD":
        return Wanted(count=0, content=False)
    return NOTHING if is_judged and asked == EVERYTHING else asked


_FORMATS = {one.value: one for one in Format}


def format_named(name: str | None, *, stored: bool, has_zstd: bool) -> Format:
    """The format a client asks for, zip if it names none; raise `BadParameter`."""
    found = Format.ZIP if name is None else _FORMATS.get(name)
    if found is None:
        raise BadParameter("format: must be zip, tar, tar.gz or tar.zst")
    if found is Format.TAR_ZST and not has_zstd:
        raise BadParameter("format: tar.zst needs workspace-gateway[zstd] on the server")
    if stored and found not in (Format.ZIP, Format.TAR):
        raise BadParameter("stored: only a zip or a tar can be")
    return found


async def send_archive(
    request: web.BaseRequest,
    archive: ArchiveStream,
    packing: Packing,
    filename: str,
    *,
    sized: bool,
) -> Response:
    """Answer with the archive, to be saved as *filename*, as soon as there is a first byte of it.

    With *sized* its length is told whatever that takes. Conditions that make it superfluous are met
    before anything is done for it. Raise `PreconditionFailed`, `RangeNotSatisfiable` or what
    `ArchiveStream.prepare` raises.
    """
    _note(request, archive, packing)
    version = archive.entry.version
    etag = None if version is None else etag_of(version)
    headers = request[EXCHANGE].served_by(archive.source, archive.fallback)
    if etag is not None:
        headers["ETag"] = etag
    if not_modified(request, etag, None):
        return Answer(304, headers=headers)
    whole = sized or _needs_length(request, etag)
    if whole or request.method == "GET":
        try:
            await archive.prepare(whole=whole)
        finally:
            _note(request, archive, packing)
    size = archive.entry.size
    ranges = None if size is None else ranges_asked(request, etag, None, size)
    headers |= WORKSPACE_HEADERS | _facts(archive)
    headers["Accept-Ranges"] = "bytes"
    headers["Content-Disposition"] = attachment(filename)
    return await send_body(request, archive, headers, packing.format.media_type, size, ranges)


def _needs_length(request: web.BaseRequest, etag: str | None) -> bool:
    # In HTTP/1.0 a body of unknown length ends with the connection, wherever that was broken.
    if request.method == "GET" and request.version < HttpVersion11:
        return True
    # RFC 9110 section 14.2: Range may be ignored. From 0 to the end, nothing is gained by waiting.
    return range_counts(request, etag, None) and asks_for_part(request.headers["Range"])


def _facts(archive: ArchiveStream) -> dict[str, str]:
    """What lets a client show how far it is, and tells that something was left out."""
    facts = {
        "X-Archive-Entries": archive.entries,
        "X-Archive-Uncompressed-Size": archive.uncompressed,
        "X-Archive-Skipped": archive.skipped,
    }
    return {name: str(number) for name, number in facts.items() if number is not None}


def _note(request: web.BaseRequest, archive: ArchiveStream, packing: Packing) -> None:
    request[EXCHANGE].archive = {
        "format": packing.format.value,
        "entries": archive.entries,
        "skipped": archive.skipped,
        "spool": archive.spool,
    }
