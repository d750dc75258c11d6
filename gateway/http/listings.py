"""Sends a listing as JSON: at once when it is short, as it is walked when it is not."""

from collections.abc import Sequence
from typing import Protocol

import orjson
from aiohttp import web

from gateway.domain.model import Entry
from gateway.http.answers import Answer, Response
from gateway.http.context import EXCHANGE
from gateway.http.errors import JSON
from gateway.http.transfer import Transfer, begun
from gateway.service.workspaces import Listing


class Form(Protocol):
    """How a dialect writes a listing; the pieces together are one JSON document."""

    def opening(self) -> bytes:
        """What stands before the first entry."""

    def entries(self, batch: Sequence[Entry]) -> bytes:
        """A batch, its entries separated by commas."""

    def closing(self, listing: Listing) -> bytes:
        """What stands behind the last entry."""


async def send_listing(request: web.BaseRequest, listing: Listing, form: Form) -> Response:
    """Answer with all entries of *listing*; memory does not grow with their number."""
    headers = request[EXCHANGE].served_by(listing.source, listing.fallback)
    headers["Content-Type"] = JSON
    head = form.opening()
    transfer: Transfer | None = None
    held = False
    async for batch in listing:
        if not held:
            head, held = head + form.entries(batch), True
            continue
        if transfer is None:
            response = await begun(request, 200, headers)
            if request.method == "HEAD":
                return response
            transfer = Transfer(request, response)
            await transfer.write(head)
        await transfer.write(b"," + form.entries(batch))
    if transfer is None:
        return Answer(200, head + form.closing(listing), headers)
    await transfer.write(form.closing(listing))
    return await transfer.end()


def where_it_goes_on(listing: Listing) -> bytes:
    """The members that a JSON object ends with when its listing is not the whole; each with its
    comma.
    """
    members = b',"truncated":true' if listing.truncated else b""
    if listing.next_cursor is not None:
        members += b',"next_cursor":' + orjson.dumps(listing.next_cursor)
    return members
