"""A client that sends exactly the bytes it is given and shows exactly what comes back."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import orjson

End = Literal["closed", "reset", "open"]


@dataclass(frozen=True)
class Answer:
    """One response as it stood on the wire."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    complete: bool
    """Whether the framing says that the body is whole."""

    def header(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) <= 1, f"{name} stands {len(values)} times"
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, where: int | str, **options: Any) -> "Wire":
        """To a port of this machine, or to the unix socket of that path."""
        if isinstance(where, str):
            return cls(*await asyncio.open_unix_connection(where, **options))
        return cls(*await asyncio.open_connection("127.0.0.1", where, **options))

    async def __aenter__(self) -> "Wire":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()

    async def send(self, data: bytes) -> None:
        try:
            self.writer.write(data)
        except RuntimeError as exc:  # what uvloop says of a connection that is gone
            raise ConnectionResetError(str(exc)) from exc
        await self.writer.drain()

    async def ask(
        self,
        target: str | bytes,
        *headers: str | bytes,
        method: str = "GET",
        version: str = "1.1",
    ) -> Answer:
        """Send a request with these raw header lines and read its answer."""
        await self.send(head(target, *headers, method=method, version=version))
        return await self.answer(method=method)

    async def answer(self, method: str = "GET") -> Answer:
        """Read one response; a body that breaks off is returned as far as it came."""
        status = "100"
        while status == "100":
            raw = await self.reader.readuntil(b"\r\n\r\n")
            first, *lines = raw[:-4].decode("latin-1").split("\r\n")
            _, status, _ = first.split(" ", 2)
        headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
        known = {name.lower(): value for name, value in headers}
        if method == "HEAD" or status in ("204", "304"):
            return Answer(int(status), headers, b"", True)
        body = bytearray()
        complete = False
        try:
            if known.get("transfer-encoding") == "chunked":
                while size := int(await self.reader.readuntil(b"\r\n"), 16):
                    body += await self.reader.readexactly(size)
                    await self.reader.readexactly(2)
                await self.reader.readexactly(2)
                complete = True
            elif "content-length" in known:
                body += await self.reader.readexactly(int(known["content-length"]))
                complete = True
            else:
                while piece := await self.reader.read(65536):
                    body += piece
                complete = True
        except asyncio.IncompleteReadError as exc:
            body += exc.partial
        except ConnectionError:
            pass
        return Answer(int(status), headers, bytes(body), complete)

    async def rest(self, within_s: float = 5) -> tuple[bytes, End]:
        """All that still comes, and how it ends: cleanly, by a reset, or not within the time."""
        data = bytearray()
        try:
            async with asyncio.timeout(within_s):
                while piece := await self.reader.read(65536):
                    data += piece
        except TimeoutError:
            return bytes(data), "open"
        except ConnectionError:
            return bytes(data), "reset"
        return bytes(data), "closed"


def head(
    target: str | bytes, *headers: str | bytes, method: str = "GET", version: str = "1.1"
) -> bytes:
    """A request head, byte for byte."""
    lines = [
        method.encode() + b" " + _bytes(target) + b" HTTP/" + version.encode(),
        b"Host: localhost",
        *map(_bytes, headers),
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


async def ask(
    where: int | str,
    target: str | bytes,
    *headers: str | bytes,
    client: str | None = None,
    **options: str,
) -> Answer:
    """One request on a connection of its own, from the local address *client*."""
    own = {"local_addr": (client, 0)} if client else {}
    async with await Wire.connect(where, **own) as wire:
        return await wire.ask(target, *headers, **options)


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
