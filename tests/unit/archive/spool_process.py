"""A process with a spool of its own: `spool_process DIRECTORY BYTES`, orders come line by line."""

import asyncio
import sys
from hashlib import blake2b

from gateway.archive.spool import Begun, Growing, Spool
from gateway.domain.errors import StreamBroken
from tests.unit.archive.spools import content, key_of, read


class Orders:
    """One method for each order; what it returns is the answer."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._growing: Growing | None = None

    async def begin(self, number: int, most_bytes: int) -> str:
        try:
            self._growing = await self._spool.begin(key_of(number), most_bytes)
        except Begun:
            return "taken"
        return "no room" if self._growing is None else "begun"

    async def append(self, number: int, first: int, last: int) -> str:
        assert self._growing is not None
        await self._growing.append(content(number, last)[first:])
        return "appended"

    async def finish(self) -> str:
        assert self._growing is not None
        async with self._growing:
            await self._growing.finish()
        return "finished"

    async def leave(self) -> str:
        assert self._growing is not None
        async with self._growing:
            return "left"

    async def follow(self, number: int) -> str:
        try:
            data = await read(self._spool, number)
        except StreamBroken:
            return "broken"
        return "nothing" if data is None else blake2b(data).hexdigest()


async def main(directory: str, most_bytes: int) -> None:
    loop = asyncio.get_running_loop()
    async with Spool.running(directory, most_bytes) as spool:
        orders = Orders(spool)
        print("ready", flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            order, *arguments = line.split()
            print(await getattr(orders, order)(*map(int, arguments)), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
