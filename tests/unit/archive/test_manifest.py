"""The member that tells what was left out."""

from pathlib import Path

import orjson
import pytest

from gateway.archive.helpers import Helpers
from gateway.archive.manifest import manifest_of
from gateway.archive.plan import Plan, planned
from gateway.domain.archives import Format, Packing, Skipped
from tests.unit.archive import tools
from tests.unit.archive.trees import Fetched, OnDisk, Tree, archive, opened, write

NAME = b".workspace-manifest.json"
TREE: Tree = {b"a": b"a", b"d/large": bytes(3_000_000), NAME: b"the workspace's own"}


def skipped(*paths: bytes) -> Skipped:
    found = Skipped()
    for path in paths:
        found.add(tuple(path.split(b"/")))
    return found


def plan(
    source: Fetched | OnDisk, form: Format, left_out: Skipped, *, stored: bool = False
) -> Plan:
    return planned("local/s1", Packing(form, stored=stored), source.members, left_out)


@pytest.mark.parametrize(
    ("form", "stored"), [*((form, False) for form in Format), (Format.ZIP, True)]
)
async def test_it_is_the_last_member_and_nothing_else_has_its_name(
    tmp_path: Path, helpers: Helpers, form: Format, stored: bool
) -> None:
    """Wherever the others come from; and other programs find all of them."""
    write(tmp_path / "tree", TREE)
    said = manifest_of(4, skipped(b"d/link", b"fifo"))
    renamed = {**TREE, b".workspace-manifest~2.json": TREE[NAME]}
    del renamed[NAME]
    with opened(tmp_path / "tree") as disk:
        sources: list[OnDisk | Fetched] = [disk, Fetched(TREE)]
        for number, source in enumerate(sources):
            left_out = skipped(b"d/link", b"fifo")
            path = tmp_path / f"{number}.{form.value}"
            made = plan(source, form, left_out, stored=stored)
            await archive(made, source, helpers, path)

            assert made.names[-1] == NAME.decode()
            tools.check(form, path)
            tools.EXTRACTORS[form]["bsdtar"](path, tmp_path / f"{number}")
            found = tools.found_in(tmp_path / f"{number}")
            contents = {name: was[0] for name, was in found.items() if was}
            assert orjson.loads(contents.pop(NAME))["paths"] == ["d/link", "fifo"]
            assert contents == renamed
    assert orjson.loads(said) == {
        "entries": 4,
        "skipped": 2,
        "paths": ["d/link", "fifo"],
        "truncated": False,
    }


@pytest.mark.parametrize("form", Format)
def test_no_directory_passes_for_it(form: Format) -> None:
    source = Fetched({NAME + b"/paths": b"", b"a": b""})

    assert plan(source, form, Skipped()).names[-1] == NAME.decode()
    assert len({*plan(source, form, Skipped()).names}) == len(source.members) + 1


async def test_an_archive_may_be_nothing_else(tmp_path: Path, helpers: Helpers) -> None:
    source = Fetched({})
    await archive(plan(source, Format.TAR, Skipped()), source, helpers, tmp_path / "tar")

    assert tools.run("tar", "-tf", tmp_path / "tar") == NAME.decode() + "\n"


def test_what_was_left_out_makes_another_archive() -> None:
    """And the same makes the same."""
    source = Fetched(TREE)
    keys = [
        *(plan(source, Format.ZIP, skipped(b"a")).key for _ in range(2)),
        plan(source, Format.ZIP, skipped(b"b")).key,
        planned("local/s1", Packing(Format.ZIP), source.members).key,
    ]

    assert keys[0] == keys[1]
    assert len({*keys}) == 3


def test_it_is_bounded_whatever_was_left_out() -> None:
    """Of what has no name, or comes behind many others, there is the number."""
    many, long = Skipped(), Skipped()
    for number in range(5000):
        many.add((b"%d" % number,))
        long.add((b"\xff" * 250,) * 16)
    many.add(None)

    for left_out, count, most in [(many, 5001, 1000), (long, 5000, 100)]:
        manifest = manifest_of(0, left_out)
        said = orjson.loads(manifest)
        assert (said["skipped"], said["truncated"]) == (count, True)
        assert 0 < len(said["paths"]) <= most
        assert len(manifest) < 1 << 20
