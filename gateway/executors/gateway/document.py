"""Reads the JSON of a listing as it arrives: in flat memory, and nothing of it unchecked."""

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import AwareDatetime, ConfigDict, Field, TypeAdapter, ValidationError, with_config

from gateway.domain.errors import ProtocolFault
from gateway.domain.model import Kind
from gateway.executors.engines.reply import Reply

ROWS = 64  # in one batch: what is checked in one turn of the loop

# An entry of the deepest path that a gateway lists has about 800 KB, all its bytes escaped.
_LONGEST_PIECE = 2 * 1024 * 1024

# The forms stay linear in what they read: what a group has taken cannot be taken otherwise. A
# possessive group would not remember its rounds, but Python before 3.11.5, such as Debian 12's,
# goes on from where the last round has failed (https://github.com/python/cpython/issues/106052):
# harmless at the end of what there is, as in a string; the others have a bound.
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_OPENING = re.compile(
    rb"\s*+\{(?:\s*+" + _STRING + rb"\s*+:\s*+" + _STRING + rb'\s*+,){0,16}\s*+"files"\s*+:\s*+\[',
    re.S,
)
_ROW = re.compile(rb"\s*+(?:,\s*+)?\{(?:[^\"{}\[\]]++|" + _STRING + rb"){0,256}\}", re.S)
_CLOSING = re.compile(rb"\s*+\]")


@with_config(ConfigDict(strict=True))
@dataclass(slots=True)
class Row:
    """An entry as it is written; other members are none of ours.

    *kind* and *mode* are what `detail=true` adds; a gateway that does not know it leaves them out.
    """

    path: str
    size: Annotated[int, Field(ge=0, lt=2**63)]
    is_dir: bool
    modified_at: AwareDatetime | None
    is_symlink: bool = False
    error: str | None = None
    kind: Kind | None = None
    mode: Annotated[str, Field(pattern="^[0-7]{4}$")] | None = None


@with_config(ConfigDict(strict=True))
@dataclass(slots=True)
class _Rest:
    next_cursor: str | None = None


_ROWS = TypeAdapter(list[Row])
_REST = TypeAdapter(_Rest)


class Document:
    """The listing in one answer; once `batches` is exhausted, *has_more* tells of another page.

    Raises `ProtocolFault` for anything that is no listing, `StreamBroken` if it is cut short.
    """

    def __init__(self, reply: Reply) -> None:
        if reply.content_type != "application/json":
            raise _malformed("it is not JSON")
        self._chunks = reply.chunks()
        self._held = bytearray()
        self.has_more = False

    async def batches(self) -> AsyncIterator[Sequence[Row]]:
        """Yield the entries in the order in which they come, some at a time."""
        await self._read_opening()
        is_first = True
        while True:
            end = self._whole_rows()
            if end:
                yield self._rows(end, is_first)
                is_first = False
            elif _CLOSING.match(self._held):
                break
            else:
                await self._read_on()
        await self._read_rest()

    async def _read_opening(self) -> None:
        while (opening := _OPENING.match(self._held)) is None:
            await self._read_on()
        end = opening.end()
        del self._held[:end]

    def _whole_rows(self) -> int:
        """Where the entries end that are here as a whole, at most `ROWS` of them."""
        end = 0
        for _ in range(ROWS):
            row = _ROW.match(self._held, end)
            if row is None:
                break
            end = row.end()
        return end

    def _rows(self, end: int, is_first: bool) -> Sequence[Row]:
        text = bytes(self._held[:end]).lstrip()
        del self._held[:end]
        if not is_first:
            if not text.startswith(b","):
                raise _malformed("no comma between entries")
            text = text[1:]
        try:
            return _ROWS.validate_json(b"[" + text + b"]")
        except ValidationError as exc:
            raise _invalid(exc) from None

    async def _read_rest(self) -> None:
        closing = _CLOSING.match(self._held)
        assert closing is not None
        async for chunk in self._chunks:
            self._held += chunk
            self._check_length()
        rest = bytes(self._held[closing.end() :])
        try:
            self.has_more = bool(_REST.validate_json(b'{"":0' + rest).next_cursor)
        except ValidationError as exc:
            raise _invalid(exc) from None

    async def _read_on(self) -> None:
        """Read half as much again as is held, so that what drips in is not judged all the time."""
        enough = len(self._held) * 3 // 2
        begun = len(self._held)
        async for chunk in self._chunks:
            self._held += chunk
            self._check_length()
            if len(self._held) > enough:
                return
        if len(self._held) == begun:
            raise _malformed("it ends early")

    def _check_length(self) -> None:
        if len(self._held) > _LONGEST_PIECE:
            raise _malformed("a piece of it is too long")


def _malformed(why: str) -> ProtocolFault:
    fault = ProtocolFault("the executor's listing has an unexpected form")
    fault.__cause__ = ValueError(why)
    return fault


def _invalid(exc: ValidationError) -> ProtocolFault:
    # Not the exception's own text: it shows what the backend sent.
    first = exc.errors(include_url=False, include_input=False, include_context=False)[0]
    return _malformed(f"{'.'.join(map(str, first['loc']))}: {first['type']}"[:200])
