"""API keys: how they are made, and the digest that is all the gateway keeps of one."""

import hashlib
import secrets
import string
import zlib

PREFIX = "wsg_"

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SECRET_LENGTH = 22  # log2(62 ** 22) = 130.99 random bits
_CHECKSUM_LENGTH = 6  # 62 ** 6 > 2 ** 32


def new_key(key_id: str) -> str:
    """Return a new key `wsg_<id>_<secret>_<checksum>`.

    Split it from the right: an id may hold underscores, the other parts do not. By the checksum,
    secret scanners tell keys from look-alikes, and people a key from a slip of the pen.
    """
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_LENGTH))
    key = f"{PREFIX}{key_id}_{secret}"
    return f"{key}_{_checksum(key.encode())}"


def is_mistyped(key: bytes) -> bool:
    """Whether *key* begins like one of ours and is none: its checksum is not that of the rest."""
    rest, _, checksum = key.rpartition(b"_")
    return key.startswith(PREFIX.encode()) and checksum != _checksum(rest).encode()


def digest(key: bytes | str) -> bytes:
    """Return the SHA-256 of *key*, ours or a foreign one."""
    return hashlib.sha256(key.encode() if isinstance(key, str) else key).digest()


def _checksum(text: bytes) -> str:
    """The CRC-32 of *text* in base 62."""
    number, digits = zlib.crc32(text), ""
    for _ in range(_CHECKSUM_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
