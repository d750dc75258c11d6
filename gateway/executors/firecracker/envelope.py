"""Takes bytes out of the JSON text in which Shannon's executor sends them, piece by piece."""

import binascii
import re

from pydantic import JsonValue, TypeAdapter, ValidationError

from gateway.domain.errors import GatewayError, ProtocolFault

_MOST_AROUND = 4096  # bytes before the content, and behind it

# A flat object up to the opening quote of the content; each alternative begins with a character of
# its own, so that nothing is tried twice.
_BEFORE = (
    rb'\s*\{\s*(?:"(?!%(field)s")[^"\\]*"\s*:\s*(?:"(?:[^"\\]|\\.)*"|[^\s",:{}\[\]\\]+)\s*,\s*)*'
    rb'"%(field)s"\s*:\s*"'
)
_AROUND = TypeAdapter(dict[str, JsonValue])


class Envelope:
    """Is fed the text as it comes and gives the bytes in *field*; holds no more than one piece.

    The size that the answer tells is not asked: it may be absent, and what counts is what came.
    *excess* is raised for more than *most* bytes.
    """

    def __init__(self, field: str, most: int, excess: GatewayError) -> None:
        self._field = field
        self._start = re.compile(_BEFORE % {b"field": field.encode()})
        self._left = most
        self._most = most
        self._excess = excess
        self._before = b""
        self._behind: bytes | None = None
        self._is_begun = False
        self._held = b""  # characters of a group of four that is not whole yet
        self._is_padded = False

    def expect(self, length: int | None) -> None:
        """Raise *excess* if an answer of that length holds more than *most* bytes."""
        if length is not None and length > self._most * 4 // 3 + 2 * _MOST_AROUND:
            raise self._excess

    def feed(self, text: bytes) -> bytes:
        """The bytes that *text* completes.

        Raises *excess* when there are more than *most*, `ProtocolFault` if it cannot go on.
        """
        if not self._is_begun:
            self._before += text
            found = self._start.match(self._before)
            if found is None:
                if len(self._before) > _MOST_AROUND:
                    raise _unexpected("no content")
                return b""
            self._before, text = self._before[: found.end()], self._before[found.end() :]
            self._is_begun = True
        if self._behind is not None:
            self._end_of_text(text)
            return b""
        content, quote, behind = text.partition(b'"')
        if quote:
            self._behind = b""
            self._end_of_text(behind)
        return self._decoded(content)

    def end(self) -> None:
        """Raise `ProtocolFault` unless all that was fed is a whole answer."""
        if self._behind is None or self._held:
            raise _unexpected("cut short")
        try:
            around = _AROUND.validate_json(self._before + b'"' + self._behind)
        except ValidationError as exc:
            raise _unexpected(exc.errors(include_input=False)[0]["type"]) from None
        # Of a field that is there twice the last one counts.
        if around.get("success") is not True or around[self._field] != "":
            raise _unexpected("no success")

    def _decoded(self, content: bytes) -> bytes:
        if content and self._is_padded:
            raise _unexpected("base64 behind its end")
        content = self._held + content
        whole = len(content) - len(content) % 4
        content, self._held = content[:whole], content[whole:]
        try:
            data = binascii.a2b_base64(content, strict_mode=True)
        except binascii.Error as exc:
            raise _unexpected("not base64") from exc
        self._is_padded = content.endswith(b"=")
        if self._is_padded and self._held:
            raise _unexpected("base64 behind its end")
        self._left -= len(data)
        if self._left < 0:
            raise self._excess
        return data

    def _end_of_text(self, text: bytes) -> None:
        assert self._behind is not None
        self._behind += text
        if len(self._behind) > _MOST_AROUND:
            raise _unexpected("more behind the content")


def _unexpected(what: str) -> ProtocolFault:
    error = ProtocolFault("the executor's answer has an unexpected form")
    error.__cause__ = ValueError(what)
    return error
