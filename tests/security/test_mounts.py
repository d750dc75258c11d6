"""Mounts inside a workspace are refused, even of the same device; a workspace may be one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import needs
from tests.unit.executors.local.rig import OUTSIDE, RESOLVERS, Place

CHECK = """
import asyncio, json, sys
from gateway.executors.local.local import Local, LocalConfig
from tests.contract.asking import asked, packed
from tests.unit.executors.local.rig import listed, outcome

async def main():
    config = LocalConfig(type="local", root=sys.argv[1], resolver=sys.argv[2])
    async with Local.running("local", config) as executor:
        outcomes = {}
        for path in sys.argv[3:]:
            for _ in range(2):
                outcomes[path] = str(await outcome(executor, path))
        mounted = str(await outcome(executor, "f", "mounted"))
        entries = {e.path.relative: [e.kind.value, e.problem] for e in await listed(executor)}
        members, skipped = await packed(executor, "s1", asked())
    print(json.dumps([outcomes, mounted, entries, [*map(str, members)], skipped]))

asyncio.run(main())
"""

MOUNT = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1/s1/tmpfs"
echo secret > "$1/s1/tmpfs/f"
mount --bind "$1/s1-secret" "$1/s1/bind"
mount --bind "$1/s1-secret/f" "$1/s1/bound-file"
mount -t proc proc "$1/s1/proc"
mount -t tmpfs tmpfs "$1/mounted"
printf inside > "$1/mounted/f"
touch "$1/../mounts-work"
shift
exec "$@"
"""


@pytest.mark.parametrize("resolver", RESOLVERS)
def test_a_mount_point_inside_is_refused_and_not_entered(tmp_path: Path, resolver: str) -> None:
    needs.root()
    unshare = needs.program("unshare")
    place = Place(tmp_path)
    for name in ("tmpfs", "bind", "proc", "plain"):
        (place.session / name).mkdir()
    (place.root / "mounted").mkdir()
    place.file("bound-file")
    place.file("f")
    place.link("to-bind", "bind/f")
    place.link("through", "bind/../f")
    paths = [
        "f",
        "tmpfs/f",
        "tmpfs",
        "tmpfs/missing",
        "bind/f",
        "bound-file",
        "to-bind",
        "through",
        "proc/self/root/etc/passwd",
        "proc/1/cwd",
    ]

    check = [sys.executable, "-c", CHECK, place.root, resolver]
    done = subprocess.run(
        [unshare, "-m", "sh", "-c", MOUNT, "sh", place.root, *check, *paths],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=False,
    )

    if not (tmp_path / "mounts-work").exists():
        needs.missing("mounts do not work here")
    assert done.returncode == 0, done.stderr.decode()
    outcomes, mounted, entries, members, skipped = json.loads(done.stdout)
    assert "inside" in outcomes.pop("f")
    refused = [text for text in outcomes.values() if "PathRefused" in text and "mount" in text]
    assert len(refused) == len(outcomes), outcomes
    assert OUTSIDE.decode() not in done.stdout.decode()
    assert mounted == "b'inside'"
    assert entries.pop("bound-file")[0] == "file"
    assert entries == {
        "tmpfs": ["directory", "not readable"],
        "bind": ["directory", "not readable"],
        "proc": ["directory", "not readable"],
        "plain": ["directory", None],
        "f": ["file", None],
        "to-bind": ["symlink", None],
        "through": ["symlink", None],
    }
    assert members == ["b'f'", "b'plain'"]
    assert skipped == len(entries) - len(members) + 1  # the file that something is mounted on
