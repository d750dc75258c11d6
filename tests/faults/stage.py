"""A gateway whose first executor has a faulty backend and whose second is the local directory."""

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import gateways, wire
from tests.doubles import fault_proxy
from tests.doubles.fault_proxy import Fault, FaultProxy
from tests.faults.subjects import SUBJECTS, Subject
from tests.gateways import Gateway, plant
from tests.wire import Answer


@dataclass(frozen=True)
class Times:
    """The deadlines of the faulty executor, and that of the chain in seconds."""

    executor: Mapping[str, str]
    deadline_s: float


HASTY = Times({"connect": "200ms", "first_byte": "500ms", "idle": "500ms", "total": "3s"}, 2)
"""For faults that only a deadline ends."""

PATIENT = Times({"connect": "5s", "first_byte": "10s", "idle": "10s", "total": "60s"}, 20)
"""For all others: however busy the machine is, it is the fault that is noticed."""


_SIZE = 3007  # no other number in an answer looks like it
SMALL = random.Random(1).randbytes(_SIZE)
BIG = random.Random(2).randbytes(700_001)
TEXT = b"plain text, \xc3\xa9\n" * 50
FILES: dict[str | bytes, bytes | str] = {
    "in/big.bin": BIG,
    "in/plain.txt": TEXT,
    "in/small.bin": SMALL,
    "in/sub/leaf.txt": b"leaf",
}
_LISTED = [
    ("/in/big.bin", len(BIG), False),
    ("/in/plain.txt", len(TEXT), False),
    ("/in/small.bin", len(SMALL), False),
    ("/in/sub", 0, True),
]
_SDK = "Content-Type: application/json"


@dataclass(frozen=True)
class Operation:
    """A request, and whether an answer that is complete is the right one."""

    target: str
    headers: tuple[str, ...] = ()
    method: str = "GET"
    body: bytes | None = None
    listed: list[tuple[str, int, bool]] | None = None
    size: int | None = None
    status: int = 200

    async def ask(self, gateway: Gateway, session: str = "s1") -> Answer:
        target = f"/api/v1/sessions/{session}/files{self.target}"
        return await gateway.ask(target, *self.headers, method=self.method)

    def is_exact(self, answer: Answer) -> bool:
        if answer.status != self.status or not answer.complete:
            return False
        if self.listed is not None:
            found = [(f["path"], f["size"], f["is_dir"]) for f in answer.json["files"]]
            return found == self.listed and not answer.json.get("truncated")
        if self.method == "HEAD":
            return answer.header("Content-Length") == str(self.size)
        if _SDK in self.headers:
            return bool(answer.json["content"].encode() == self.body)
        return answer.body == self.body


OPERATIONS = {
    "small": Operation("/in/small.bin", body=SMALL),
    "big": Operation("/in/big.bin", body=BIG),
    "head": Operation("/in/small.bin", method="HEAD", size=len(SMALL)),
    "range": Operation(
        "/in/small.bin", ("Range: bytes=1000-1999",), body=SMALL[1000:2000], status=206
    ),
    "list": Operation("?path=in", listed=_LISTED),
    "tree": Operation("?path=in&recursive=true", listed=[*_LISTED, ("/in/sub/leaf.txt", 4, False)]),
    "sdk": Operation("/in/plain.txt", (_SDK,), body=TEXT),
}


def each(*names: str) -> pytest.MarkDecorator:
    """Try every subject with the operations that are named, or with all of them."""
    return pytest.mark.parametrize(
        ("subject", "operation"),
        [
            pytest.param(subject, OPERATIONS[name], id=f"{subject.name}-{name}")
            for subject in SUBJECTS.values()
            for name in names or OPERATIONS
        ],
    )


@dataclass(frozen=True)
class Stage:
    gateway: Gateway
    proxy: FaultProxy


@asynccontextmanager
async def staged(
    subject: Subject,
    tmp: Path,
    fault: Fault = fault_proxy.honest,
    *,
    url: str | None = None,
    local: bool = True,
    changes: dict[str, Any] | None = None,
    times: Times = PATIENT,
) -> AsyncIterator[Stage]:
    """Start all of it; without *local* there is no session in the local directory.

    *url* is where the executor looks for its backend if that is not the fault proxy.
    """
    remote_root, local_root = tmp / "remote", tmp / "local"
    for root in (remote_root, local_root):
        root.mkdir(exist_ok=True)
    plant(remote_root / "s1", FILES)
    if local:
        plant(local_root / "s1", FILES)
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(subject.backend(remote_root))
        proxy = await stack.enter_async_context(fault_proxy.running(port, fault))
        section = subject.section(tmp, url or f"http://127.0.0.1:{proxy.port}")
        gateway = await stack.enter_async_context(
            gateways.running(
                local_root,
                {
                    "executors": {"remote": {**section, "timeout": times.executor}},
                    "placement": {
                        "default": {"executor": "remote", "fallback": ["local"]},
                        "deadline": f"{times.deadline_s}s",
                    },
                    **(changes or {}),
                },
            )
        )
        yield Stage(gateway, proxy)


def is_error(answer: wire.Answer) -> bool:
    """Whether it is an error as clients know it, in the gateway's own words."""
    if answer.header("Content-Type") != "application/json; charset=utf-8":
        return False
    return answer.complete and list(answer.json) == ["error"]
