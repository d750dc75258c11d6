"""An HTTP server that answers every request with the bytes it was given, and keeps the heads."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class RawHttp:
    """*answers* are given in turn, the last of them again and again; then it hangs up."""

    answers: list[bytes]
    port: int = 0
    heads: list[bytes] = field(default_factory=list)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            writer.write(answer)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def raw_http(*answers: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawHttp]:
    """It listens on a port of this machine, with *tls* in front if that is given."""
    double = RawHttp(list(answers))
    server = await asyncio.start_server(double._serve, "127.0.0.1", 0, ssl=tls)
    double.port = server.sockets[0].getsockname()[1]
    async with server:
        yield double


def answer(status: int, body: bytes = b"", *headers: str) -> bytes:
    """A whole answer that says how long it is."""
    lines = [f"HTTP/1.1 {status} x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
