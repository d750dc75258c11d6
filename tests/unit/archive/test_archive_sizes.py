"""How long archives are: known before they are made, or bounded."""

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.archive.helpers import Helpers
from gateway.archive.jobs import MOST_BYTES, MOST_MEMBERS
from gateway.domain.archives import Format
from tests.unit.archive import tools
from tests.unit.archive.trees import Fetched, Tree, archive, noise, packed, plan_of, text, write

LIMITS = [
    *(0, 1, 511, 512, 513, 65_535, 65_536),
    *(MOST_BYTES - 1, MOST_BYTES, MOST_BYTES + 1),
    *(2 * MOST_BYTES - 1, 2 * MOST_BYTES, 2 * MOST_BYTES + 1, 3 * MOST_BYTES),
]

NAMES = st.one_of(
    st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=40),
    st.sampled_from(["n" * 99, "n" * 100, "n" * 101, "ü" * 127, "n" * 255]),
).filter(lambda name: name not in (".", "..") and len(name.encode()) <= 255)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda names: "/".join(names).encode())
SIZES = st.one_of(st.integers(0, 3000), st.sampled_from(LIMITS))


def _without_files_as_directories(tree: dict[bytes, bytes]) -> Tree:
    return {
        path: data
        for path, data in tree.items()
        if not any(other.startswith(path + b"/") for other in tree)
    }


TREES = st.dictionaries(
    PATHS,
    st.builds(lambda kind, size: kind(size, size), st.sampled_from([noise, text]), SIZES),
    max_size=8,
).map(_without_files_as_directories)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=TREES, form=st.sampled_from(Format), stored=st.booleans())
def test_the_planned_size_is_right_and_the_bound_holds(
    helpers: Helpers, tree: Tree, form: Format, stored: bool
) -> None:
    """`archive` compares them with what was made."""
    source = Fetched(tree)
    plan = plan_of(source.members, form, stored=stored)

    assert (plan.size is not None) == (form is Format.TAR or (stored and form is Format.ZIP))
    assert plan.uncompressed == sum(len(data or b"") for data in tree.values())
    with tempfile.NamedTemporaryFile() as file:
        asyncio.run(archive(plan, source, helpers, Path(file.name)))


@pytest.mark.parametrize("form", list(Format))
@pytest.mark.parametrize(
    "tree",
    [
        {b"d/%05d" % number: b"" for number in range(3000)},
        {b"d/%05d" % number: noise(number, number % 7) for number in range(3000)},
        {(b"\xff" * 254 + b"/") * 15 + b"%d" % number: b"" for number in range(40)},
        {b"noise": noise(1, 9 * MOST_BYTES + 1)},
        {b"noise but for what is looked at": noise(1, 500_000) + bytes(8192) + noise(2, 500_000)},
    ],
    ids=["empty files", "tiny files", "long names", "noise", "misjudged"],
)
async def test_the_bound_holds_where_records_or_noise_outweigh_all_else(
    tmp_path: Path, helpers: Helpers, form: Format, tree: Tree
) -> None:
    source = Fetched(tree)
    plan = plan_of(source.members, form)

    await archive(plan, source, helpers, tmp_path / "archive")


async def test_pieces_begin_where_a_job_would_become_too_large(
    tmp_path: Path, helpers: Helpers
) -> None:
    root = tmp_path / "tree"
    write(root, {b"%02d" % number: text(number, size) for number, size in enumerate(LIMITS)})
    expected = tools.found_in(root)

    for form, stored in [*((form, False) for form in Format), (Format.ZIP, True)]:
        path = tmp_path / f"{stored}.{form.value}"
        await packed(root, form, helpers, path, stored=stored)
        tools.check(form, path)
        tools.EXTRACTORS[form]["bsdtar"](path, tmp_path / f"{stored}-{form.value}")
        assert tools.found_in(tmp_path / f"{stored}-{form.value}") == expected


@pytest.mark.parametrize("count", [MOST_MEMBERS - 1, MOST_MEMBERS, MOST_MEMBERS + 1])
async def test_jobs_of_as_many_members_as_they_may_have_lose_none(
    tmp_path: Path, helpers: Helpers, count: int
) -> None:
    source = Fetched({b"%04d" % number: b"%d" % number for number in range(count)})

    for form in Format:
        path = tmp_path / f"archive.{form.value}"
        await archive(plan_of(source.members, form), source, helpers, path)
        tools.EXTRACTORS[form]["bsdtar"](path, tmp_path / form.value)
        found = tools.found_in(tmp_path / form.value)
        assert {name: was[0] for name, was in found.items() if was} == source.now


def test_small_files_need_little_room_beside_their_bytes() -> None:
    """What it may need is kept free for it."""
    members = Fetched({b"%05d" % number: b"x" for number in range(20_000)}).members

    assert plan_of(members, Format.ZIP).most < 300 * len(members)
    assert plan_of(members, Format.TAR_GZ).most < 2700 * len(members)
