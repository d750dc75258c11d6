"""What can be wrong with an executor's answer, as faults of `fault_proxy`."""

import asyncio
import zlib
from collections.abc import Callable
from functools import lru_cache

from tests.doubles.fault_proxy import Answer, Exchange, Fault, honest

ENDLESS = b"\0" * 65536


async def silent(exchange: Exchange) -> None:
    """Accept, and never say a word."""
    await exchange.left()


def late(seconds: float) -> Fault:
    """Say everything, but only then."""

    async def fault(exchange: Exchange) -> None:
        await asyncio.sleep(seconds)
        await honest(exchange)

    return fault


def raw(data: bytes) -> Fault:
    """Say that instead of an answer, and close."""

    async def fault(exchange: Exchange) -> None:
        await exchange.say(data)

    return fault


def for_ever(start: bytes, more: bytes) -> Fault:
    """Begin with *start*, and go on with *more* until nobody listens."""

    async def fault(exchange: Exchange) -> None:
        await exchange.say(start)
        while not exchange.writer.is_closing():
            await exchange.say(more)
            await asyncio.sleep(0)

    return fault


def status(code: str, *headers: str, body: bytes = b"<h1>secret detail</h1>") -> Fault:
    """Refuse with *code*, in words that no client may see."""
    lines = [
        f"HTTP/1.1 {code}",
        *headers,
        "Content-Type: text/html",
        "Connection: close",  # else it is chance whether the next request comes here too
        f"Content-Length: {len(body)}",
    ]
    return raw("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


async def reset(exchange: Exchange) -> None:
    """Hang up with a reset instead of an answer."""
    await exchange.reset()


async def hang_up(exchange: Exchange) -> None:
    """Hang up instead of an answer."""


def cut(share: float, *, by_reset: bool) -> Fault:
    """Hang up when this share of the body has been sent."""

    async def fault(exchange: Exchange) -> None:
        answer = await exchange.answer()
        whole = answer.whole()
        end = len(whole) - len(answer.body) + int(share * len(answer.body))
        await exchange.say(whole[:end])
        if by_reset:
            await exchange.reset()

    return fault


def stalled(share: float) -> Fault:
    """Fall silent when this share of the body has been sent."""

    async def fault(exchange: Exchange) -> None:
        answer = await exchange.answer()
        whole = answer.whole()
        await exchange.say(whole[: len(whole) - len(answer.body) + int(share * len(answer.body))])
        await exchange.left()

    return fault


def drip(pause_s: float) -> Fault:
    """Send the head at once, and the body a byte at a time."""

    async def fault(exchange: Exchange) -> None:
        answer = await exchange.answer()
        whole = answer.whole()
        head = len(whole) - len(answer.body)
        await exchange.say(whole[:head])
        for at in range(head, len(whole)):
            await exchange.say(whole[at : at + 1])
            await asyncio.sleep(pause_s)

    return fault


def framed(*framing: str, frame: Callable[[bytes], bytes] = bytes) -> Fault:
    """Send the body as *frame* makes it, behind these framing headers."""

    async def fault(exchange: Exchange) -> None:
        answer = await exchange.answer()
        await exchange.say(answer.head(*framing) + frame(answer.body))

    return fault


def length(told: Callable[[int], object]) -> Fault:
    """Say of a body of n bytes that it has *told(n)*, and close behind it."""

    async def fault(exchange: Exchange) -> None:
        answer = await exchange.answer()
        await exchange.say(answer.head(f"Content-Length: {told(len(answer.body))}") + answer.body)

    return fault


def chunked(frame: Callable[[bytes], bytes]) -> Fault:
    """Send the body as *frame* makes chunks of it."""
    return framed("Transfer-Encoding: chunked", frame=frame)


def chunk(data: bytes) -> bytes:
    """One chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def endless_chunks(exchange_body: bytes = b"") -> Fault:
    """A body in chunks that never ends, after a beginning that looks good."""

    async def fault(exchange: Exchange) -> None:
        answer = await exchange.answer()
        await exchange.say(answer.head("Transfer-Encoding: chunked"))
        if answer.body:
            await exchange.say(chunk(answer.body))
        while not exchange.writer.is_closing():
            await exchange.say(chunk(exchange_body or ENDLESS))
            await asyncio.sleep(0)

    return fault


def declared(size: int) -> Fault:
    """A body of that many bytes, whatever was asked for."""

    async def fault(exchange: Exchange) -> None:
        answer = await exchange.answer()
        await exchange.say(answer.head(f"Content-Length: {size}"))
        left = size
        while left and not exchange.writer.is_closing():
            piece = ENDLESS[: min(left, len(ENDLESS))]
            await exchange.say(piece)
            left -= len(piece)
            await asyncio.sleep(0)

    return fault


def changed(change: Callable[[Answer], Answer]) -> Fault:
    """Send another answer, well framed."""

    async def fault(exchange: Exchange) -> None:
        await exchange.say(change(await exchange.answer()).whole())

    return fault


def body(content: bytes) -> Fault:
    """Send that as the body."""
    return changed(lambda answer: answer.with_body(content))


def header(name: str, value: str) -> Fault:
    """Send the good answer with that header."""
    return changed(lambda answer: answer.with_header(name, value))


def swapped(old: bytes, new: bytes) -> Fault:
    """Send the good answer with *new* wherever *old* stood in its body."""
    return changed(lambda answer: answer.with_body(answer.body.replace(old, new)))


def bomb(encoding: str, size: int) -> Fault:
    """Send *size* zeros, compressed, although nobody wanted that."""

    def packed(answer: Answer) -> Answer:
        return answer.with_body(zeros(encoding, size)).with_header("Content-Encoding", encoding)

    return changed(packed)


@lru_cache
def zeros(encoding: str, size: int) -> bytes:
    """What `bomb` sends: made once, for that takes seconds."""
    packer = zlib.compressobj(9, wbits={"gzip": 31, "deflate": 15}[encoding])
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()


def at_first(fault: Fault, times: int = 1) -> Fault:
    """*fault* for so many requests, then none."""

    async def at_first_fault(exchange: Exchange) -> None:
        await (fault if exchange.number <= times else honest)(exchange)

    return at_first_fault


def every_other(fault: Fault) -> Fault:
    """*fault* for the first request and each second one after it."""

    async def every_other_fault(exchange: Exchange) -> None:
        await (fault if exchange.number % 2 else honest)(exchange)

    return every_other_fault
