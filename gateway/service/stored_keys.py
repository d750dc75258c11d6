"""The keys that are kept in the store, for whoever authenticates."""

from gateway.domain.model import Principal
from gateway.store.base import Keys


class StoredKeys:
    """A source of keys: those of the store that have not been revoked."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def holder(self, key_digest: bytes) -> Principal | None:
        """Whose key this is, expired or not; at most half a second old.

        Raises `StoreUnavailable`.
        """
        key = await self._keys.by_digest(key_digest)
        if key is None or key.revoked_at is not None:
            return None
        self._keys.note_use(key.id)
        return key.principal
