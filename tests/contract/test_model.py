"""Random trees are walked and read as a model of them says, however the walk begins."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.model import Kind
from gateway.domain.paths import WorkspacePath
from tests.contract.asking import at, content, listed
from tests.contract.conftest import RIGS

Told = tuple[Kind, bool]
Tree = dict[bytes, "bytes | Tree"]

MODELLED = sorted(name for name in RIGS if name.split("-")[0] in ("local", "memory"))
"""The quick ones: hundreds of backends are started."""

NAMES = st.one_of(
    st.sampled_from([b"a", b"b", b"a-", b"a.b", b"a b", b"\xff", b"\xc3\xa9", b"...", b"n" * 255]),
    st.binary(min_size=1, max_size=4).filter(
        lambda name: not {0, ord("/")} & {*name} and name not in (b".", b"..")
    ),
)
TREES: st.SearchStrategy[Tree] = st.dictionaries(
    NAMES,
    st.recursive(
        st.binary(max_size=20),
        lambda below: st.dictionaries(NAMES, below, max_size=4),
        max_leaves=8,
    ),
    max_size=5,
)


def flat(tree: Tree, above: bytes = b"") -> dict[bytes, bytes | None]:
    """By path: the files' contents, None for each directory."""
    found: dict[bytes, bytes | None] = {}
    for name, node in tree.items():
        if isinstance(node, bytes):
            found[above + name] = node
        else:
            found[above + name] = None
            found.update(flat(node, above + name + b"/"))
    return found


def with_links(data: st.DataObject, files: Mapping[bytes, bytes | None]) -> dict[bytes, str]:
    """Links in any directory to anything, and to nothing."""
    directories = [b"", *(path + b"/" for path, content in files.items() if content is None)]
    targets = [*files, b"not/there"]
    wanted = st.dictionaries(
        st.builds(
            lambda where, number: where + b"link%d" % number,
            st.sampled_from(directories),
            st.integers(0, 2),
        ),
        st.sampled_from(targets),
        max_size=3,
    )
    links = {}
    for path, target in data.draw(wanted).items():
        climb = b"../" * path.count(b"/")
        links[path] = (climb + target).decode(errors="surrogateescape")
    return links


def model(
    files: Mapping[bytes, bytes | None], links: Mapping[bytes, str]
) -> dict[WorkspacePath, Told]:
    """What a walk from the root to its end should tell of each path."""
    told = {}
    for path, planted in files.items():
        told[at(path)] = (Kind.DIRECTORY if planted is None else Kind.FILE, False)
    for path, target in links.items():
        end = target.encode(errors="surrogateescape").removeprefix(b"../" * path.count(b"/"))
        kind = Kind.SYMLINK if end not in files else told[at(end)][0]
        told[at(path)] = (kind, True)
    return told


@pytest.mark.parametrize("name", MODELLED)
@settings(max_examples=60)
@given(data=st.data(), tree=TREES)
async def test_a_random_tree_is_what_the_model_says(
    name: str, data: st.DataObject, tree: Tree
) -> None:
    files = flat(tree)
    links = with_links(data, files)
    told = model(files, links)
    bases = [path for path, (kind, _) in told.items() if kind is Kind.DIRECTORY]
    base = data.draw(st.sampled_from([at(""), *bases]), label="base")
    depth = data.draw(st.sampled_from([1, 2, 3, 100]), label="depth")
    somewhere = st.lists(NAMES, max_size=4).map(lambda parts: WorkspacePath(tuple(parts)))
    known = st.sampled_from([at(""), *told])
    after = data.draw(st.none() | known | somewhere, label="after")

    # What a link leads to is listed below the link's own path when the walk begins there.
    start = base
    if told.get(base, (Kind.DIRECTORY, False))[1]:
        target = links[base.raw].encode(errors="surrogateescape")
        start = at(target.removeprefix(b"../" * base.raw.count(b"/")))
    expected = {
        WorkspacePath((*base.parts, *path.parts[len(start.parts) :])): each
        for path, each in told.items()
        if path.parts[: len(start.parts)] == start.parts
        and 0 < len(path.parts) - len(start.parts) <= depth
    }
    with tempfile.TemporaryDirectory() as directory:
        async with RIGS[name](Path(directory)) as rig:
            rig.plant({**files, **links})
            entries = await listed(rig, base.raw, depth=depth, after=after)
            for entry in entries:
                if entry.kind is Kind.FILE and not entry.is_link and base == start:
                    assert await content(rig, entry.path.raw) == files[entry.path.raw]
                    assert entry.size == len(files[entry.path.raw] or b"")

    assert [(entry.path, (entry.kind, entry.is_link)) for entry in entries] == [
        (path, expected[path]) for path in sorted(expected) if after is None or path > after
    ]
