"""The unix socket of a Firecracker microVM's vsock device, with a guest that listens on a port.

As Firecracker's docs/vsock.md describes it, "Host-initiated connections".
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

_WORD = re.compile(rb"CONNECT ([0-9]{1,10})\n")


@asynccontextmanager
async def microvm(
    path: Path, port: int, guest: Path, word: bytes = b"OK %d\n"
) -> AsyncIterator[None]:
    """Listen at *path*; who asks for *port* is put through to the unix socket *guest*.

    Who asks for another port, or for anything else, is hung up on. *word* is what is answered.
    """
    own_port = 1 << 30

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal own_port
        try:
            asked = _WORD.fullmatch(await reader.readline())
            if asked is None or int(asked[1]) != port:
                return
            own_port += 1
            writer.write(word % own_port if b"%d" in word else word)
            from_guest, to_guest = await asyncio.open_unix_connection(guest)
            async with asyncio.TaskGroup() as both_ways:
                both_ways.create_task(_copy(reader, to_guest))
                both_ways.create_task(_copy(from_guest, writer))
        except* ConnectionError:
            pass  # either side may hang up
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve, path)
    async with server:
        yield


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    finally:
        writer.close()
