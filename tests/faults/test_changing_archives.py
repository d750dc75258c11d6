"""Files that change at a backend after an archive of them was planned, and before they come."""

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.doubles import fault_proxy
from tests.doubles.fault_proxy import Exchange
from tests.faults.stage import BIG, FILES, staged
from tests.faults.subjects import SUBJECTS
from tests.gateways import key_entry

CHANGES = {"auth": {"keys": [key_entry(scopes=["archives:read"])]}}
TARGET = "/api/v1/sessions/s1/archive?format=tar.gz"


def _grow(file: Path) -> None:
    with file.open("ab") as log:
        log.write(b"more")


def _link(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere")


BREAKING: dict[str, Callable[[Path], None]] = {
    "shrinks": lambda file: os.truncate(file, len(BIG) // 2),
    "shrinks by a byte": lambda file: os.truncate(file, len(BIG) - 1),
    "is emptied": lambda file: os.truncate(file, 0),
    "vanishes": Path.unlink,
    "becomes a link": _link,
}


@pytest.mark.parametrize("name", [*BREAKING, "grows"])
async def test_of_a_file_there_is_what_was_planned_or_no_archive(name: str, tmp_path: Path) -> None:
    """The first request for its bytes finds it changed."""
    changed = []

    async def change(exchange: Exchange) -> None:
        if exchange.request.startswith(b"GET /file") and not changed:
            changed.append(name)
            BREAKING.get(name, _grow)(tmp_path / "remote" / "s1" / "in" / "big.bin")
        await fault_proxy.honest(exchange)

    async with staged(
        SUBJECTS["http_profile"], tmp_path, change, local=False, changes=CHANGES
    ) as stage:
        answer = await stage.gateway.ask(TARGET)

    assert changed
    assert answer.header("X-Workspace-Source") in ("remote", None)
    if name == "grows":
        with tarfile.open(fileobj=io.BytesIO(answer.body)) as archive:
            files = {m.name: archive.extractfile(m) for m in archive if m.isfile()}
            assert {path: file.read() for path, file in files.items() if file} == FILES
    else:
        assert answer.status in (502, 503) or (answer.status, answer.complete) == (200, False)
