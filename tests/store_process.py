"""A process of its own that uses a store: `python -m tests.store_process URL DO [WORD …]`."""

import asyncio
import sys
from datetime import UTC, datetime

from gateway.domain.model import SessionId
from gateway.domain.records import Session
from gateway.store.base import Store
from gateway.store.store import opened
from tests.stores import digest


async def take(store: Store, ticket: str, times: str) -> None:
    """Take the link that often at once; print how often it was given."""
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    taken = await asyncio.gather(*(store.links.take(digest(ticket)) for _ in range(int(times))))
    print(sum(link is not None for link in taken))


async def append(store: Store, session_id: str, times: str) -> None:
    """Append events one after the other; print the id of each once it is kept."""
    for number in range(int(times)):
        event = await store.events.append(SessionId(session_id), "test", {"number": number})
        print(event.id, flush=True)


async def create(store: Store, name: str, times: str) -> None:
    """Register sessions with an entry of metadata each; print each once it is kept."""
    for number in range(int(times)):
        session_id = SessionId(f"{name}-{number}")
        metadata = {"by": name}
        await store.sessions.create(
            Session(id=session_id, org="acme", created_at=datetime.now(UTC), metadata=metadata)
        )
        print(session_id, flush=True)


async def revoke(store: Store, key_id: str) -> None:
    """Revoke the key."""
    print(await store.keys.revoke(key_id))


async def delete(store: Store, session_id: str) -> None:
    """Delete the session."""
    print(await store.sessions.delete(SessionId(session_id)))


async def start(store: Store) -> None:
    """Nothing more than opening it."""
    await store.check()


async def main(url: str, do: str, *words: str) -> None:
    """Open the store at *url* and do it."""
    async with opened(url) as store:
        await {one.__name__: one for one in (take, append, create, revoke, delete, start)}[do](
            store, *words
        )


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
