"""The `Content-Disposition` that saves a workspace file under its own name, whatever that is."""

import re
from urllib.parse import quote

# Controls and line separators would end the header or hide in it; bidirectional marks (U+202E
# makes `gpj.exe` of `exe.jpg`) deceive the person who opens the file; separators make a path of
# a name; lone surrogates have no UTF-8.
_DANGEROUS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069/\\\\\ud800-\udfff]"
)
# Browsers disagree about quoted-pairs and percent signs in `filename` (RFC 6266 appendix D), and
# parsers that split at every semicolon are common: aiohttp's own is one.
_NOT_PLAIN = re.compile('[^ -~]|["%;]')
_ATTR_CHARS = "!#$&+^`|"  # RFC 8187 section 3.2.1, besides what quote() leaves alone anyway


def attachment(filename: str) -> str:
    """One header line of printable ASCII by RFC 6266: `filename`, and `filename*` where it differs.

    What could harm the reader of the header or of the name is `_` in both; all else stays exact.
    """
    name = neutral(filename)
    plain = _NOT_PLAIN.sub("_", name)
    line = f'attachment; filename="{plain}"'
    return line if plain == name else f"{line}; filename*=UTF-8''{quote(name, safe=_ATTR_CHARS)}"


def neutral(filename: str) -> str:
    """*filename* as it is safe to save: never empty, never a path."""
    name = _DANGEROUS.sub("_", filename)
    return "download" if name in ("", ".", "..") else name
