"""API keys: how they are made, and the digest that is all the gateway keeps of one."""

import hashlib
import secrets
import string
import zlib

_ALPHABET = string.ascii_letters + string.digits
_SECRET_LENGTH = 22  # log2(62 ** 22) = 130.99 random bits


def new_key(key_id: str) -> str:
    """Return a new key `wsg_<id>_<secret>_<checksum>`.

    Split it from the right: an id may hold underscores, the other parts do not. The checksum is
    for secret scanners, which tell keys from look-alikes by it.
    """
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_LENGTH))
    key = f"wsg_{key_id}_{secret}"
    return f"{key}_{zlib.crc32(key.encode()):08x}"


def digest(key: bytes | str) -> bytes:
    """Return the SHA-256 of *key*, ours or a foreign one."""
    return hashlib.sha256(key.encode() if isinstance(key, str) else key).digest()
