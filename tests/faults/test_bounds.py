"""However much an executor sends, the gateway holds little of it."""

import asyncio
from pathlib import Path

import pytest

from gateway.executors.engines.reply import MOST_JSON
from tests import wire
from tests.doubles import fault_proxy, faults
from tests.faults.stage import FILES, OPERATIONS
from tests.faults.subjects import SUBJECTS
from tests.gateways import AUTH, command, plant

_MB = 1 << 20
_MOST_GROWTH = 24 * _MB
# A profile's listing is one JSON text, held whole up to a bound: two of them at once.
_MORE_GROWTH = {"http_profile": 2 * MOST_JSON}
_TIMEOUT = {"connect": "2s", "first_byte": "2s", "idle": "1s", "total": "2s"}

FAULTS = {
    "gzip bomb": faults.bomb("gzip", 1024 * _MB),
    "deflate bomb": faults.bomb("deflate", 1024 * _MB),
    "chunks without end": faults.endless_chunks(),
    "blanks without end": faults.endless_chunks(b" " * 65536),
    "101 MB": faults.declared(101 * _MB),
    "a head without end": faults.for_ever(b"HTTP/1.1 200 OK\r\n", b"X-A: " + b"b" * 999 + b"\r\n"),
    "interim answers without end": faults.for_ever(b"", b"HTTP/1.1 103 Early\r\n\r\n" * 99),
    "an error without end": faults.for_ever(
        b"HTTP/1.1 500 Oops\r\nContent-Length: 999999999999\r\n\r\n", faults.ENDLESS
    ),
    "a refusal without end": faults.for_ever(
        b"HTTP/1.1 404 No\r\nX-Workspace-Verdict: path_not_found\r\n"
        b"Content-Length: 999999999999\r\n\r\n",
        faults.ENDLESS,
    ),
}


def forget_peak(pid: int) -> None:
    """Begin anew with what it has now (proc_pid_clear_refs(5))."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


@pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS.keys())
async def test_memory_stays_flat(subject, tmp_path):
    """One process meets all faults: starting it takes longer than most of them."""
    remote_root, local_root = tmp_path / "remote", tmp_path / "local"
    plant(remote_root / "s1", FILES)
    local_root.mkdir()
    for encoding in ("gzip", "deflate"):
        faults.zeros(encoding, 1024 * _MB)  # takes seconds, in which no proxy could answer
    most = _MOST_GROWTH + _MORE_GROWTH.get(subject.name, 0)
    async with subject.backend(remote_root) as backend, fault_proxy.running(backend) as proxy:
        section = subject.section(tmp_path, f"http://127.0.0.1:{proxy.port}")
        changes = {
            "executors": {"remote": {**section, "timeout": _TIMEOUT}},
            "placement": {"default": {"executor": "remote"}, "deadline": "9s"},
        }
        with command(tmp_path, local_root, changes) as process:

            async def ask(name: str) -> wire.Answer:
                operation = OPERATIONS[name]
                target = f"/api/v1/sessions/s1/files{operation.target}"
                return await wire.ask(process.port, target, AUTH, *operation.headers)

            for name in ("big", "list", "sdk"):
                assert OPERATIONS[name].is_exact(await ask(name))
            for title, fault in FAULTS.items():
                forget_peak(process.popen.pid)
                before = process.peak()
                proxy.fault = fault
                answers = await asyncio.gather(*map(ask, ("big", "list", "tree", "sdk")))

                assert process.peak() - before < most, title
                for answer in answers:
                    assert answer.status in (404, 413, 502) or not answer.complete, title
